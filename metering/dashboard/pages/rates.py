"""Rates: what each model costs now; one model with its history; what cancelled streams are billed for."""

from collections.abc import Sequence
from datetime import UTC, datetime

from metering.dashboard.asking import Asked, Page, link
from metering.dashboard.errors import NoSuchThingError
from metering.dashboard.links import rate_page
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.events.usage import UsageKind
from metering.prices.queries import (
    RateCardFilter,
    SourcedTerms,
    list_cancel_policies,
    list_rate_cards,
    rated_providers,
    rates_in_force,
)
from metering.prices.rates import Rate
from metering.prices.store import SourcedRateCard

_PAGE, _MOST_CARDS = 200, 10_000
_SHOWN = (UsageKind.INPUT, UsageKind.OUTPUT, UsageKind.CACHE_READ, UsageKind.CACHE_WRITE)


def rates(asked: Asked) -> Page:
    """The page of rates in force."""
    limit = asked.all_of("rates", _PAGE)
    words = asked.text("q")
    provider = asked.text("provider")
    found = rates_in_force(
        asked.connection,
        now=asked.now,
        provider=provider,
        model_contains=words,
        only=asked.viewer.customer_id,
        limit=limit + 1,
    )
    whole = len(found) <= limit
    table = Table(
        name="rates",
        title="In force now, USD per million tokens",
        columns=[
            Column("provider", "Provider"),
            Column("model", "Model"),
            Column("customer_id", "For"),
            *(Column(kind.value, kind.value.replace("_", " "), Kind.CODE) for kind in _SHOWN),
            Column("more", "Also"),
            Column("effective_from", "Since", Kind.DAY),
        ],
        rows=[_row(each) for each in found[:limit]],
        empty="No model's name has that in it. Rates come with `metering rates import`, or PUT /v1/rates.",
        note="" if whole else f"The first {limit:,}; search by name or choose a provider to see others.",
        whole=whole,
    )
    policies = _policies(list_cancel_policies(asked.connection, provider=None))
    return Page(
        template="rates.html.j2",
        title="Rates",
        section="rates",
        context={
            "table": table,
            "policies": policies,
            "words": words,
            "provider": provider,
            "providers": rated_providers(asked.connection),
        },
        tables=[table, policies],
    )


def _row(each: SourcedRateCard) -> Row:
    card = each.card
    plain = {rate.kind: rate for rate in card.rates if not _conditions(rate)}
    further = len(card.rates) - sum(1 for kind in _SHOWN if kind in plain)
    href = rate_page(card.provider, card.model)
    return {
        "provider": card.provider,
        "model": Cell(card.model, href),
        "customer_id": card.customer_id or "everybody",
        **{kind.value: _text(plain[kind]) if kind in plain else None for kind in _SHOWN},
        "more": f"{further} more" if further else None,
        "effective_from": card.effective_from,
    }


def _text(rate: Rate) -> str:
    return f"{rate.usd_per_million.normalize():f}"


def _conditions(rate: Rate) -> str:
    """When a rate applies; nothing when always."""
    parts = []
    if rate.above_input_tokens:
        parts.append(f"above {rate.above_input_tokens:,} input tokens")
    if rate.service_tier:
        parts.append(f"service tier {rate.service_tier}")
    if rate.daily:
        parts.append(f"from {rate.daily.start:%H:%M} to {rate.daily.end:%H:%M} UTC")
    return ", ".join(parts)


def rate(asked: Asked) -> Page:
    """The page of one model: every card it ever had, the newest first."""
    provider, model = asked.id("provider"), asked.id("model")
    where = RateCardFilter(provider=provider, model=model, customer_id=asked.viewer.customer_id)
    found = list_rate_cards(asked.connection, where=where, after=None, limit=_MOST_CARDS)
    own = asked.viewer.customer_id
    cards = [each for each in found if own is None or each.card.customer_id in (None, own)]
    if not cards:
        raise NoSuchThingError(f"there are no rates for {model!r} of {provider!r}")
    tables = [_history(each, asked.now) for each in sorted(cards, key=_newest_first)]
    return Page(
        template="rate.html.j2",
        title=f"Rates of {model}",
        section="rates",
        crumbs=[("Rates", link("rates")), (provider, link("rates", provider=provider))],
        context={"tables": tables, "model": model, "provider": provider},
        tables=tables,
    )


def _newest_first(each: SourcedRateCard) -> tuple[str, float]:
    return each.card.customer_id or "", -each.card.effective_from.timestamp()


def _history(each: SourcedRateCard, now: datetime) -> Table:
    card = each.card
    since = f"{card.effective_from.astimezone(UTC):%Y-%m-%d %H:%M}"
    when = f"From {since}" if card.effective_from <= now else f"To come: from {since}"
    return Table(
        name=card.rate_card_id,
        title=f"{when}, for {card.customer_id or 'everybody'}",
        columns=[
            Column("kind", "Kind"),
            Column("usd_per_million", "USD per million", Kind.CODE),
            Column("when", "When"),
        ],
        rows=[
            {
                "kind": each_rate.kind.value.replace("_", " "),
                "usd_per_million": _text(each_rate),
                "when": _conditions(each_rate) or "always",
            }
            for each_rate in card.rates
        ],
        empty="It ends this customer's own rates: from then on everybody's apply.",
        note=f"{card.rate_card_id}: {each.provenance}, added {each.created_at.astimezone(UTC):%Y-%m-%d}",
    )


def _policies(found: Sequence[SourcedTerms]) -> Table:
    return Table(
        name="cancel-policies",
        title="What a stream that did not complete is billed for",
        columns=[
            Column("provider", "Provider"),
            Column("policy", "Policy", Kind.STATE),
            Column("version", "Version", Kind.COUNT),
            Column("effective_from", "Since", Kind.DAY),
            Column("provenance", "From", Kind.PROSE),
        ],
        rows=[
            {
                "provider": each.terms.provider,
                "policy": each.terms.policy.value,
                "version": each.terms.version,
                "effective_from": each.terms.effective_from,
                "provenance": each.provenance,
            }
            for each in found
        ],
        empty="Every provider's: what was delivered before it stopped. `metering cancel-policy set` changes that.",
    )

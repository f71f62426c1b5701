"""The rates page: current rates and cancel policies; and the rate history of one model."""

from collections.abc import Sequence
from datetime import UTC

from metering.core.money import EXACT
from metering.dashboard.errors import NotFoundError
from metering.dashboard.links import customer_cell, link, rate_page
from metering.dashboard.months import requested_month
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.events.usage import TIMED_KINDS, UsageKind
from metering.prices.queries import (
    RateCardFilter,
    SourcedTerms,
    list_cancel_policies,
    list_price_changes,
    list_rate_cards,
    rated_providers,
    rates_in_force,
)
from metering.prices.rate_text import window_text
from metering.prices.rates import ALWAYS, Rate, RateCard
from metering.prices.store.cards import SourcedRateCard
from metering.totals.queries.orders import Order
from metering.totals.queries.question import Group, TotalsQuestion
from metering.totals.queries.totals import read_totals

_PAGE, _MAX_CARDS = 200, 10_000
_SHOWN = (UsageKind.INPUT, UsageKind.OUTPUT, UsageKind.CACHE_READ, UsageKind.CACHE_WRITE)
_COLUMNS = (
    Column("provider", "Provider"),
    Column("model", "Model"),
    *(Column(kind.value, kind.value.replace("_", " ").capitalize(), Kind.EXACT_MONEY) for kind in _SHOWN),
    Column("more", "Other rates"),
    Column("effective_from", "Since", Kind.DAY),
)


def rates(request: PageRequest) -> Page:
    """The page of current rates."""
    limit = request.list_limit("rates", _PAGE)
    words = request.text("q")
    provider = request.text("provider")
    found = rates_in_force(
        request.connection,
        now=request.now,
        provider=provider,
        model_contains=words,
        only=request.viewer.customer_id,
        limit=limit + 1,
    )
    whole = len(found) <= limit
    in_use = None if words or provider else _in_use(request)
    table = Table(
        name="rates",
        title="All current rates, USD per million tokens",
        columns=[
            *_COLUMNS[:2],
            Column("customer_id", "Only for"),
            *_COLUMNS[2:],
        ],
        rows=[_row(each.card) for each in found[:limit]],
        empty=request.words(
            "No model matches. Add rates with `metering rates import` or PUT /v1/rates.",
            to_customer="No model matches.",
        ),
        note="" if whole else f"The first {limit:,}. Search by name or choose a provider to see others.",
        whole=whole,
    )
    policies = _policies(request, list_cancel_policies(request.connection, provider=None))
    # A customer's own login sees neither other customers' amounts nor what the operator has not decided yet.
    changes = [_price_changes(request)] if request.viewer.customer_id is None else []
    return Page(
        template="rates.html.j2",
        title="Rates",
        section="rates",
        context={
            "table": table,
            "in_use": in_use,
            "policies": policies,
            "changes": changes,
            "words": words,
            "provider": provider,
            "providers": rated_providers(request.connection),
        },
        tables=[*changes, *([in_use] if in_use else ()), table, policies],
    )


def _in_use(request: PageRequest) -> Table | None:
    """The rates of the models that were used in this month or the last, the most expensive first."""
    month = requested_month(request)
    question = TotalsQuestion(
        from_=month.whole_before[0],
        to=month.range_[1],
        group_by=[Group.PROVIDER, Group.MODEL],
        customer_id=request.viewer.customer_id,
        order=Order.COST,
        limit=_PAGE,
        counters=False,
    )
    book = request.service.price_books.current(request.connection).rates
    cards: dict[str, RateCard] = {}
    for row in read_totals(request.connection, question=question):
        provider, model = row.group["provider"], row.group["model"]
        customer_id = request.viewer.customer_id or ""
        if isinstance(provider, str) and isinstance(model, str):
            match = book.find(customer_id=customer_id, provider=provider, model=model, at=request.now)
            if match is not None:
                cards.setdefault(match.card.rate_card_id, match.card)
    if not cards:
        return None
    return Table(
        name="rates-in-use",
        title="Rates of models in use, USD per million tokens",
        columns=_COLUMNS,
        rows=[_row(card) for card in cards.values()],
        empty="",
        note="Models that were used in this month or the last, the one that cost most first.",
    )


def _price_changes(request: PageRequest) -> Table:
    limit = request.list_limit("price-changes", _PAGE)
    found = list_price_changes(request.connection, limit=limit + 1)
    return Table(
        name="price-changes",
        title="Prices that differ from the installed catalogue",
        columns=[
            Column("model", "Model"),
            Column("was", "Now, USD per million", Kind.PROSE),
            Column("becomes", "In the catalogue", Kind.PROSE),
            Column("starts_at", "From", Kind.TIME),
            Column("source", "Source", Kind.PROSE),
            Column("customer_count", "Customers", Kind.COUNT),
            Column("usd_cents", "Cost of the month", Kind.EXACT_MONEY),
            Column("would_cost", "By the new price", Kind.EXACT_MONEY),
            Column("period", "Month"),
        ],
        rows=[
            {
                "model": Cell(f"{each.provider}/{each.model}", rate_page(each.provider, each.model)),
                "was": each.was,
                "becomes": each.becomes,
                "starts_at": each.starts_at,
                "source": each.source,
                "customer_count": each.customer_count,
                "usd_cents": each.usd_cents,
                "would_cost": each.would_cost_usd_cents,
                "period": each.period,
            }
            for each in found[:limit]
        ],
        whole=len(found) <= limit,
        empty="None. The installed catalogue is compared once a day.",
        note="`metering rates diff` shows the customers. Import with `metering rates import --approve`, or keep"
        " the current prices with `--keep`."
        if found
        else "",
    )


def _row(card: RateCard) -> Row:
    plain = {rate.kind: rate for rate in card.rates if not _conditions(rate)}
    others = [rate for rate in card.rates if rate.kind not in _SHOWN or rate is not plain.get(rate.kind)]
    href = rate_page(card.provider, card.model)
    return {
        "provider": card.provider,
        "model": Cell(card.model, href),
        "customer_id": customer_cell(card.customer_id),
        **{kind.value: EXACT.scaleb(plain[kind].usd, 2) if kind in plain else None for kind in _SHOWN},
        "more": Cell("; ".join(map(_in_words, others)), more=tuple(map(_in_words, others)), sort=len(others)),
        "effective_from": card.effective_from,
    }


def _in_words(rate: Rate) -> str:
    """A rate in a line: `cache write $6.25, above 200,000 input tokens`."""
    unit = "/h" if rate.kind in TIMED_KINDS else ""
    when = _conditions(rate)
    return f"{rate.kind.value.replace('_', ' ')} ${rate.usd.normalize():f}{unit}{f', {when}' if when else ''}"


def _conditions(rate: Rate) -> str:
    """When a rate applies; empty if always."""
    parts = []
    if rate.above_input_tokens:
        parts.append(f"above {rate.above_input_tokens:,} input tokens")
    if rate.service_tier:
        parts.append(f"service tier {rate.service_tier}")
    if rate.daily:
        parts.append(f"{window_text(rate.daily)} UTC")
    return ", ".join(parts)


def rate(request: PageRequest) -> Page:
    """The page of one model: all of its rate cards, newest first."""
    provider, model = request.id("provider"), request.id("model")
    where = RateCardFilter(provider=provider, model=model, customer_id=request.viewer.customer_id)
    found = list_rate_cards(request.connection, where=where, after=None, limit=_MAX_CARDS)
    own = request.viewer.customer_id
    cards = [each for each in found if own is None or each.card.customer_id in (None, own)]
    if not cards:
        raise NotFoundError(f"there are no rates for model {model!r} of provider {provider!r}")
    tables = [_history(each, request) for each in sorted(cards, key=_newest_first)]
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


def _history(each: SourcedRateCard, request: PageRequest) -> Table:
    card, now = each.card, request.now
    added = f"added {each.created_at.astimezone(UTC):%Y-%m-%d}"
    when = "Since" if card.effective_from <= now else "Scheduled from"
    since = (
        "the beginning"
        if card.effective_from == ALWAYS
        else f"{card.effective_from.astimezone(UTC):%Y-%m-%d %H:%M}"
    )
    return Table(
        name=card.rate_card_id,
        title=f"{when} {since}, for {card.customer_id or 'all customers'}",
        columns=[
            Column("kind", "Kind"),
            Column("usd_per_million", "USD per million", Kind.EXACT_MONEY),
            Column("per", "Per"),
            Column("when", "Applies"),
        ],
        fixed=True,
        rows=[
            {
                "kind": each_rate.kind.value.replace("_", " "),
                "usd_per_million": EXACT.scaleb(each_rate.usd, 2),
                "per": "hour" if each_rate.kind in TIMED_KINDS else "million",
                "when": _conditions(each_rate) or "always",
            }
            for each_rate in card.rates
        ],
        empty="This card ends the customer's own rates: the rates for all customers apply.",
        note=request.words(
            f"{card.rate_card_id}: {each.provenance}, {added}", to_customer=f"{card.rate_card_id}, {added}"
        ),
    )


def _policies(request: PageRequest, found: Sequence[SourcedTerms]) -> Table:
    return Table(
        name="cancel-policies",
        title="Cancel policies: what incomplete streams are billed for",
        columns=[
            Column("provider", "Provider"),
            Column("policy", "Policy", Kind.STATE),
            Column("version", "Version", Kind.COUNT),
            Column("effective_from", "Since", Kind.DAY),
            *([] if request.is_customers else [Column("provenance", "Source", Kind.PROSE)]),
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
        empty="No policy is set: all providers have `delivered`, which bills what was delivered before the end."
        + request.words(" Set one with `metering cancel-policy set`.", to_customer=""),
    )

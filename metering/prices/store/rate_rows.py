"""Rows of the price book's tables as records."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

from metering.events.usage import UsageKind
from metering.prices.cancel_policies import CancelPolicy, CancelTerms
from metering.prices.markups import Markup
from metering.prices.rate_book import Provider
from metering.prices.rates import DailyWindow, Rate, RateCard, in_order

_MIDNIGHT = time()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedRateCard:
    """A rate card, where its prices come from, and when it was added."""

    card: RateCard
    provenance: str
    created_at: datetime


def rates_by_card(rows: Iterable[Any]) -> dict[str, tuple[Rate, ...]]:
    """The rates in rows of `rates`, by the id of their card."""
    found: dict[str, list[Rate]] = {}
    for row in rows:
        found.setdefault(row.rate_card_id, []).append(_rate_of_row(row))
    return {rate_card_id: in_order(rates) for rate_card_id, rates in found.items()}


def _rate_of_row(row: Any) -> Rate:
    all_day = row.daily_start == row.daily_end == _MIDNIGHT
    return Rate(
        kind=UsageKind(row.kind),
        usd_per_million=row.usd_per_million,
        above_input_tokens=row.above_input_tokens,
        service_tier=row.service_tier or None,
        daily=None if all_day else DailyWindow(row.daily_start, row.daily_end),
    )


def rate_columns(rate: Rate) -> dict[str, Any]:
    """A rate as the columns of `rates`, its card's aside."""
    return {
        "kind": rate.kind.value,
        "above_input_tokens": rate.above_input_tokens,
        "service_tier": rate.service_tier or "",
        "daily_start": rate.daily.start if rate.daily else _MIDNIGHT,
        "daily_end": rate.daily.end if rate.daily else _MIDNIGHT,
        "usd_per_million": rate.usd_per_million,
    }


def sourced_rate_card(row: Any, rates: tuple[Rate, ...]) -> SourcedRateCard:
    """A row of `rate_cards`, with its rates, as a card and where it comes from."""
    card = RateCard(
        rate_card_id=row.rate_card_id,
        provider=row.provider,
        model=row.model,
        effective_from=row.effective_from,
        rates=rates,
        names=row.names,
        position=row.position,
        customer_id=row.customer_id,
    )
    return SourcedRateCard(card=card, provenance=row.provenance, created_at=row.created_at)


def provider_of_row(row: Any) -> Provider:
    """A row of `rate_providers` as a record."""
    return Provider(provider=row.provider, names=row.names, serves_models_of=tuple(row.serves_models_of))


def cancel_terms_of_row(row: Any) -> CancelTerms:
    """A row of `cancel_policies` as a record."""
    return CancelTerms(
        provider=row.provider,
        policy=CancelPolicy(row.policy),
        version=row.version,
        effective_from=row.effective_from,
    )


def markup_of_row(row: Any) -> Markup:
    """A row of `markups` as a record."""
    return Markup(customer_id=row.customer_id, percent=row.percent, effective_from=row.effective_from)

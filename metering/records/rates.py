"""Rows of `rate_cards` and `rates` as records."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from metering.domain.rates import Rate, RateCard
from metering.domain.usage import UsageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedRateCard:
    """A rate card and where its prices come from."""

    card: RateCard
    provenance: str


def rates_by_card(rows: Iterable[Any]) -> dict[str, tuple[Rate, ...]]:
    """The rates in rows of `rates`, by the id of their card, in the order of the rows."""
    found: dict[str, list[Rate]] = {}
    for row in rows:
        found.setdefault(row.rate_card_id, []).append(
            Rate(
                kind=UsageKind(row.kind),
                usd_per_million=row.usd_per_million,
                above_input_tokens=row.above_input_tokens,
            )
        )
    return {rate_card_id: tuple(rates) for rate_card_id, rates in found.items()}


def rate_card_of_row(row: Any, rates: tuple[Rate, ...]) -> RateCard:
    """A row of `rate_cards`, with its rates, as a card."""
    return RateCard(
        rate_card_id=row.rate_card_id,
        provider=row.provider,
        model=row.model,
        effective_from=row.effective_from,
        rates=rates,
        names=row.names,
        position=row.position,
    )

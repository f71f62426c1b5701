"""Rating: usage x rates -> charge lines. Each line can be checked with pencil and paper.

1. split   each parent counter into the nested kinds that have a rate of their own, and the rest; a price per
           request adds one part
2. mark up the rate, if the customer has a markup: rate x (100 + percent) / 100
3. price   each part at its rate: quantity x USD per million / 10,000 = cents
4. sum     the parts; nothing is rounded
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from metering.core.errors import MeteringError
from metering.core.money import ZERO, cents_of, with_percent
from metering.events.usage import NESTED_KINDS, Usage, UsageKind
from metering.prices.rates import RateCard, RateTable


class RateMissingError(MeteringError):
    """A used kind has no rate; the stream is unpriced, never free."""

    def __init__(self, *, kind: UsageKind) -> None:
        super().__init__(f"no rate for {kind.value} tokens")
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeLine:
    """`usd_cents` = `quantity` x `usd_per_million` / 10,000; the rate includes the customer's markup."""

    kind: UsageKind
    quantity: int
    usd_per_million: Decimal
    usd_cents: Decimal


def rate_by_card(
    *, usage: Usage, card: RateCard, service_tier: str | None, at: datetime, markup_percent: Decimal = ZERO
) -> tuple[ChargeLine, ...]:
    """The charge lines of a stream that started at `at`. `service_tier` is as the provider writes it.

    Raises:
        RateMissingError: a parent kind (input, output) was used and has no rate.
    """
    rates = rates_of_card(usage=usage, card=card, service_tier=service_tier, at=at)
    return rate_usage(usage=usage, rates=rates, markup_percent=markup_percent)


def rates_of_card(*, usage: Usage, card: RateCard, service_tier: str | None, at: datetime) -> RateTable:
    """The rates of a card, before any markup, for a stream that started at `at`."""
    return card.rates_for(
        input_tokens=input_size(usage), service_tier=service_tier.lower() if service_tier else None, at=at
    )


def rate_usage(*, usage: Usage, rates: RateTable, markup_percent: Decimal = ZERO) -> tuple[ChargeLine, ...]:
    """The charge lines for this usage; unused kinds have no line.

    Raises:
        RateMissingError: a parent kind (input, output) was used and has no rate.
    """
    lines: list[ChargeLine] = []
    for kind, quantity in split_usage(usage=usage, priced=rates.keys()):
        rate = rates.get(kind)
        if rate is None:
            raise RateMissingError(kind=kind)
        usd_per_million = rate.usd_per_million
        if markup_percent:
            usd_per_million = with_percent(usd_per_million, percent=markup_percent)
        lines.append(
            ChargeLine(
                kind=kind,
                quantity=quantity,
                usd_per_million=usd_per_million,
                usd_cents=cents_of(quantity=quantity, usd_per_million=usd_per_million),
            )
        )
    return tuple(lines)


def input_size(usage: Usage) -> int:
    """The input tokens by which a card's rates are selected: as reported, or else the sum of the nested kinds."""
    if usage.input_tokens is not None:
        return usage.input_tokens
    return sum(usage.count(kind) or 0 for kind in NESTED_KINDS[UsageKind.INPUT])


def split_usage(*, usage: Usage, priced: Collection[UsageKind]) -> list[tuple[UsageKind, int]]:
    """The quantity of each separately priced kind, without zeros: the rest of a parent, then its nested kinds.

    A known parent limits its nested kinds: if they add up to more, they are taken in order until the parent is
    used up, so that no token is billed twice. If only nested kinds are known, their sum is the parent. A nested
    kind that is not in `priced` stays in its parent.
    """
    parts: list[tuple[UsageKind, int]] = []
    for parent, nested_kinds in NESTED_KINDS.items():
        reported = usage.count(parent)
        counts = [(kind, count) for kind in nested_kinds if (count := usage.count(kind))]
        rest = sum(count for _, count in counts) if reported is None else reported
        nested: list[tuple[UsageKind, int]] = []
        for kind, count in counts:
            if kind in priced:
                taken = min(count, rest)
                rest -= taken
                nested.append((kind, taken))
        if rest:
            parts.append((parent, rest))
        parts += [part for part in nested if part[1]]
    if UsageKind.REQUEST in priced:
        parts.append((UsageKind.REQUEST, 1))
    return parts

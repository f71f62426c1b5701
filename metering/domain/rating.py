"""Rating: usage x rate card -> charge lines. Each line can be redone with a pencil.

1. split   each parent counter into its nested kinds that have a rate of their own, and the rest
2. price   each part at its rate: quantity x USD per million / 10,000 = cents
3. sum     nothing is rounded
"""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

from metering.domain.errors import MeteringError
from metering.domain.money import cents_of
from metering.domain.rates import RateCard
from metering.domain.usage import NESTED_KINDS, Usage, UsageKind


class RateMissingError(MeteringError):
    """The card in force has no rate for a kind that was used; the stream is unpriced, never free."""

    def __init__(self, *, card: RateCard, kind: UsageKind) -> None:
        super().__init__(
            f"rate card {card.rate_card_id} of {card.provider}/{card.model} has no rate for {kind.value} tokens"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeLine:
    """`usd_cents` = `quantity` x `usd_per_million` / 10,000."""

    kind: UsageKind
    quantity: int
    usd_per_million: Decimal
    usd_cents: Decimal


def rate_usage(*, usage: Usage, card: RateCard) -> tuple[ChargeLine, ...]:
    """The lines of a charge; kinds that were not used have none.

    Raises:
        RateMissingError: a parent kind (input, output) was used and the card does not price it.
    """
    rates = card.rates_for(input_tokens=usage.input_tokens or 0)
    lines: list[ChargeLine] = []
    for kind, quantity in split_usage(usage=usage, priced=rates.keys()):
        rate = rates.get(kind)
        if rate is None:
            raise RateMissingError(card=card, kind=kind)
        lines.append(
            ChargeLine(
                kind=kind,
                quantity=quantity,
                usd_per_million=rate.usd_per_million,
                usd_cents=cents_of(quantity=quantity, usd_per_million=rate.usd_per_million),
            )
        )
    return tuple(lines)


def split_usage(*, usage: Usage, priced: Collection[UsageKind]) -> list[tuple[UsageKind, int]]:
    """Quantities that are priced apart, zeros left out: the rest of a parent first, then its nested kinds.

    A parent bounds its kinds: were the nested counters to add up to more than a known parent, they are taken
    in order until it is used up, so that no token is billed twice. Where only nested kinds are known, they
    are the parent. A nested kind that is not `priced` stays in its parent.
    """
    parts: list[tuple[UsageKind, int]] = []
    for parent, nested_kinds in NESTED_KINDS.items():
        counts = [(kind, count) for kind in nested_kinds if (count := usage.count(kind))]
        reported = usage.count(parent)
        rest = sum(count for _, count in counts) if reported is None else reported
        nested: list[tuple[UsageKind, int]] = []
        for kind, count in counts:
            if kind in priced:
                taken = min(count, rest)
                rest -= taken
                nested.append((kind, taken))
        parts += [(kind, quantity) for kind, quantity in [(parent, rest), *nested] if quantity]
    return parts

"""Simulate rates: what a month's usage would have cost by other rate cards, for each customer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from sqlalchemy import Engine

from metering.core.money import EXACT, ZERO, sum_cents
from metering.core.period import BillingPeriod
from metering.db.engine import transaction
from metering.ledger.queries.charges import BillFilter, iterate_bills_rated_by
from metering.prices.rates import RateCard
from metering.prices.rating import RateMissingError, rate_by_card
from metering.streams.bill import Bill

# Called with the number of bills read so far.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCost:
    """A customer's usage of a model: its cost and its simulated cost, in exact cents.

    `unpriced` streams have no rate in the other card and are in no other figure.
    """

    provider: str
    model: str
    customer_id: str
    stream_count: int = 0
    unpriced: int = 0
    usd_cents: Decimal = ZERO
    would_cost_usd_cents: Decimal = ZERO

    @property
    def difference_usd_cents(self) -> Decimal:
        """Simulated cost minus cost, in exact cents; below zero, the customer would pay less."""
        return EXACT.subtract(self.would_cost_usd_cents, self.usd_cents)


def simulate_rates(
    *,
    engine: Engine,
    period: BillingPeriod,
    cards: Mapping[tuple[str, str], RateCard],
    progress: Progress = lambda _: None,
) -> Sequence[RateCost]:
    """Price the streams of a period that shared cards rated by `cards`, by (provider, model); nothing is written.

    Streams that cost nothing for how they ended are left out, and a customer's own price is not a shared card. A
    customer's markup is the one with which the stream was booked.
    """
    costs: dict[tuple[str, str, str], RateCost] = {}
    with transaction(engine) as connection:
        found = iterate_bills_rated_by(connection, where=BillFilter(period=period), models=list(cards))
        for seen, each in enumerate(found, start=1):
            if each.bill.lines:
                key = (each.card_provider, each.card_model, each.customer_id)
                known = costs.get(key) or RateCost(provider=key[0], model=key[1], customer_id=key[2])
                costs[key] = _added(known, each.bill, _cost_by(cards[key[0], key[1]], each.bill))
            progress(seen)
    return [costs[key] for key in sorted(costs)]


def _added(known: RateCost, bill: Bill, would_cost: Decimal | None) -> RateCost:
    if would_cost is None:
        return replace(known, unpriced=known.unpriced + 1)
    return replace(
        known,
        stream_count=known.stream_count + 1,
        usd_cents=EXACT.add(known.usd_cents, bill.usd_cents),
        would_cost_usd_cents=EXACT.add(known.would_cost_usd_cents, would_cost),
    )


def _cost_by(card: RateCard, bill: Bill) -> Decimal | None:
    """In exact cents; None without a rate."""
    try:
        rated = rate_by_card(
            usage=bill.usage,
            card=card,
            service_tier=bill.service_tier,
            at=bill.started_at,
            markup_percent=bill.markup_percent,
        )
    except RateMissingError:
        return None
    return sum_cents(line.usd_cents for line in rated.lines)

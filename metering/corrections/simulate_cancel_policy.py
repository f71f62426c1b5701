"""Simulate a cancel policy: what a month's streams that did not complete would have cost under another policy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Engine

from metering.core.money import EXACT, ZERO, sum_cents
from metering.core.period import BillingPeriod
from metering.db.engine import transaction
from metering.events.events import Outcome
from metering.ledger.queries.charges import BillFilter, StreamBill, iterate_bills_not_completed
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.price_book import PriceBook
from metering.prices.rates import RateCard
from metering.prices.rating import RateMissingError, rate_by_card
from metering.prices.store.book import load_price_book
from metering.streams.bill import Bill


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCost:
    """The streams of a provider with an outcome: their cost and their simulated cost, in exact cents.

    `unpriced` of them have no rate and are left out of `would_cost_usd_cents`.
    """

    provider: str
    outcome: Outcome
    stream_count: int
    usd_cents: Decimal
    would_cost_usd_cents: Decimal
    unpriced: int

    @property
    def difference_usd_cents(self) -> Decimal:
        """Simulated cost minus cost, in exact cents; below zero, the customers would pay less."""
        return EXACT.subtract(self.would_cost_usd_cents, self.usd_cents)


def simulate_cancel_policy(
    *,
    engine: Engine,
    period: BillingPeriod,
    policy: CancelPolicy,
    provider: str | None,
    progress: Callable[[int], None] = lambda _: None,
) -> Sequence[SimulatedCost]:
    """Return the cost of the period's streams under `policy`, by provider and outcome; nothing is written.

    `provider` limits it to one provider. `progress` is called with the number of bills read so far.
    """
    costs: dict[tuple[str, Outcome], SimulatedCost] = {}
    where = BillFilter(period=period, provider=provider)
    with transaction(engine) as connection:
        prices = load_price_book(connection)
        for seen, each in enumerate(iterate_bills_not_completed(connection, where=where), start=1):
            if each.bill is not None and each.bill.outcome is not Outcome.COMPLETED:
                _count(costs, each.bill, _cost_under(policy, each, each.bill, prices))
            progress(seen)
    return [costs[key] for key in sorted(costs)]


def _count(costs: dict[tuple[str, Outcome], SimulatedCost], bill: Bill, would_cost: Decimal | None) -> None:
    key = (bill.provider, bill.outcome)
    known = costs.get(key)
    costs[key] = SimulatedCost(
        provider=bill.provider,
        outcome=bill.outcome,
        stream_count=(known.stream_count if known else 0) + 1,
        usd_cents=EXACT.add(known.usd_cents if known else ZERO, bill.usd_cents),
        would_cost_usd_cents=EXACT.add(known.would_cost_usd_cents if known else ZERO, would_cost or ZERO),
        unpriced=(known.unpriced if known else 0) + (would_cost is None),
    )


def _cost_under(policy: CancelPolicy, stream: StreamBill, bill: Bill, prices: PriceBook) -> Decimal | None:
    """The simulated cost in exact cents; None without a rate.

    `delivered` and `drain` bill the same facts; they differ only in what the gateway reads.
    """
    if policy is CancelPolicy.ZERO:
        return ZERO
    if bill.cancel_policy is not CancelPolicy.ZERO:
        return bill.usd_cents
    card = _card_of(stream, bill, prices)
    if card is None:
        return None
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


def _card_of(stream: StreamBill, bill: Bill, prices: PriceBook) -> RateCard | None:
    if bill.rate_card_id is not None:
        return prices.rates.card(bill.rate_card_id)
    match = prices.rates.find(
        customer_id=stream.customer_id,
        provider=bill.response_provider or bill.provider,
        model=bill.response_model or bill.model,
        at=bill.started_at,
    )
    return match.card if match else None

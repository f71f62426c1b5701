"""Streams that arrived when their month was closed already: corrections of the month that bills them find them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from metering.core.period import BillingPeriod
from metering.corrections.rerate import rerate
from metering.corrections.simulate_cancel_policy import simulate_cancel_policy
from metering.events.events import Outcome
from metering.events.usage import UsageKind
from metering.ledger.queries.charges import BillFilter, iterate_bills_not_completed, iterate_bills_rated_by
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rates import Rate
from metering.prices.set_rate import set_rate
from tests.builders import Months, end, start
from tests.database import is_cluster

OCTOBER, NOW = datetime(2026, 10, 12, 9, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC)
MODEL = ("anthropic", "claude-opus-4-7")


@pytest.fixture
def late(months: Months) -> Months:
    """October is closed with `early`; then `late` of the same day arrives, and cancelled `gone`."""
    months.use("acme", at=OCTOBER, name="early")
    assert months.close("2026-10") == {}
    months.use("acme", at=OCTOBER, name="late")
    cancelled = end("gone", 5, customer_id="acme", time=OCTOBER, outcome=Outcome.CANCELLED)
    months.receive([start("gone", customer_id="acme", time=OCTOBER - timedelta(seconds=4)), cancelled])
    months.finalize(now=NOW)
    return months


@pytest.mark.skipif(is_cluster(), reason="a plan of Citus shows one shard, by other names")
@pytest.mark.parametrize("late_in", ["charges_late", "adjustments_by_charged_end"])
def test_they_are_found_by_indexes(late: Months, late_in: str) -> None:
    """At 100 million charges, all that ended before a month are minutes of reading."""
    plans: list[str] = []

    def keep_plan(connection: Connection, *executed: Any) -> None:
        _, statement, parameters, *_ = executed
        if "newest_bills" in statement:
            raw = connection.connection.cursor()
            raw.execute("EXPLAIN " + statement, parameters)
            plans.append("\n".join(row[0] for row in raw.fetchall()))

    with late.service.engine.connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        event.listen(connection, "before_cursor_execute", keep_plan)
        list(iterate_bills_not_completed(connection, where=filed_in("2026-11")))
    of_late, of_month = plans
    assert late_in in of_late
    assert "charges_late" not in of_month


def filed_in(period: str) -> BillFilter:
    return BillFilter(period=BillingPeriod.parse(period))


def test_rerating_the_month_that_bills_them_finds_them(late: Months) -> None:
    rates = [Rate(kind=kind, usd_per_million=Decimal(1)) for kind in (UsageKind.INPUT, UsageKind.OUTPUT)]
    provider, model = MODEL
    set_rate(
        engine=late.service.engine,
        provider=provider,
        model=model,
        effective_from=OCTOBER - timedelta(days=1),
        rates=rates,
        set_by="test",
        now=NOW,
    )
    terms = {"engine": late.service.engine, "price_books": late.service.price_books, "now": NOW}
    changed = {
        period: sum(group.stream_count for group in rerate(where=filed_in(period), book=True, **terms))
        for period in ("2026-10", "2026-11", "2026-12")
    }
    assert changed == {"2026-10": 1, "2026-11": 2, "2026-12": 0}
    late.check_totals()


def test_another_cancel_policy_is_simulated_for_them_too(late: Months) -> None:
    def cancelled(period: str) -> int:
        costs = simulate_cancel_policy(
            engine=late.service.engine,
            period=BillingPeriod.parse(period),
            policy=CancelPolicy.ZERO,
            provider=None,
        )
        return sum(cost.stream_count for cost in costs)

    assert (cancelled("2026-10"), cancelled("2026-11")) == (0, 1)


def test_bills_by_a_models_rates_are_found_in_the_month_that_bills_them(late: Months) -> None:
    with late.service.engine.connect() as connection:
        found = [
            len(list(iterate_bills_rated_by(connection, where=filed_in(period), models=[MODEL])))
            for period in ("2026-10", "2026-11")
        ]
    assert found == [1, 2]

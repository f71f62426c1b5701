"""Months in running workers: they find what a run wants in the database, also without a broker."""

import sys
from datetime import UTC, datetime, timedelta

import pytest

from metering.months.run_invoices import begin_scheduled_run
from metering.server.embedded.supervisor import ChildSpec, Supervisor
from metering.server.outgoing import close_terms
from tests.builders import Months
from tests.database import Database
from tests.local_stripe import KEY
from tests.waiting import eventually

pytestmark = pytest.mark.long

NOWHERE = "unix:///nonexistent/valkey.sock"
AS_OF = datetime(2026, 12, 3, tzinfo=UTC)


def worker(months: Months, database: Database, redis_url: str) -> ChildSpec:
    environment = {
        "METERING_DATABASE_URL": database.url,
        "METERING_REDIS_URL": redis_url,
        "METERING_ENVIRONMENT": "tests",
        "METERING_STRIPE_API_BASE": months.stripe.url,
        "STRIPE_API_KEY": KEY,
    }
    return ChildSpec(name="worker", argv=[sys.executable, "-m", "metering", "worker"], env=environment)


def all_final(months: Months, count: int) -> bool:
    return months.rows("SELECT state, count(*) FROM invoice_pushes GROUP BY 1") == [("final", count)]


def test_workers_close_and_push_what_a_run_wants_also_without_a_broker(
    months: Months, rated_database: Database
) -> None:
    customers = [f"c{number}" for number in range(6)]
    for customer_id in customers:
        months.use(customer_id)
        months.link(customer_id)
    months.start_run("2026-11", as_of=AS_OF)
    with Supervisor(quiet=True) as supervisor:
        supervisor.start(
            [
                worker(months, rated_database, rated_database.redis_url),
                worker(months, rated_database, NOWHERE),
            ]
        )
        assert eventually(lambda: all_final(months, len(customers)))
        assert eventually(lambda: months.rows("SELECT finished_at IS NOT NULL FROM invoice_runs") == [(True,)])
    assert months.at_stripe() == [("open", 100, 1)] * len(customers)


def test_the_schedule_closes_the_last_month_once_its_grace_is_over_and_once_only(months: Months) -> None:
    months.use("acme")
    terms = close_terms(months.service.settings)
    end = datetime(2026, 12, 1, tzinfo=UTC)

    def scheduled(now: datetime) -> str | None:
        run = begin_scheduled_run(engine=months.service.engine, terms=terms, now=now)
        return str(run.period) if run else None

    assert scheduled(end + timedelta(hours=23)) is None
    assert scheduled(end + timedelta(hours=25)) == "2026-11"
    assert months.rows("SELECT requested_by FROM invoice_runs") == [("the schedule",)]
    months.close("2026-11", now=end + timedelta(hours=25))
    assert scheduled(end + timedelta(hours=26)) is None

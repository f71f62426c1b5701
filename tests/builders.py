"""A service with rates, events to give it, and its bookings to read."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from redis import Redis
from sqlalchemy import text

from metering.audit.run import audit
from metering.core.clock import utc_now
from metering.core.period import BillingPeriod
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.db.schema import ensure_journal_partitions
from metering.emitter.cloudevents import encode_event, json_array
from metering.events.events import Outcome, StreamEnd, StreamStart, UsageEvent, UsageSource
from metering.events.store import COPY_JOURNAL, JournalEntry, stream_hashes
from metering.events.usage import Usage
from metering.events.wire.bodies import pack_body
from metering.ledger.finalize_due import FinalizeResult, finalize_due
from metering.ledger.link_retries import link_retries
from metering.ledger.queries.streams import StreamView, get_stream
from metering.ledger.rollups import ROLLUPS
from metering.ledger.store.rollups import roll_up_totals
from metering.months.close_months import CloseTerms, close_step
from metering.months.queries.invoices import InvoiceFilter, list_invoices
from metering.months.store.invoices import StoredInvoice
from metering.months.store.runs import InvoiceRun, finish_run, start_run
from metering.server.bootstrap import Service
from metering.streams.store.streams import UPSERT, upsert_parameters
from metering.streams.stream import fold
from metering.stripe.client.client import StripeClientPort
from metering.stripe.client.limiter import Limiter, Rates
from metering.stripe.push import PushState
from metering.stripe.push_due import Pusher, push_due
from metering.stripe.push_invoice import PushTerms
from metering.stripe.put_customer import put_customer
from metering.stripe.store.pushes import add_pushes
from tests.database import Database
from tests.local_stripe import KEY, LocalStripe

NOVEMBER = datetime(2026, 11, 12, 9, tzinfo=UTC)
ENVIRONMENT = "tests"
NOW = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)
T0 = datetime(2026, 11, 23, 15, tzinfo=UTC)
CLOSE_TERMS = CloseTerms(grace=timedelta(hours=24), minimum_cents=50, hand_over=add_pushes)
ADD_CUSTOMER = "INSERT INTO customers VALUES ('acme', NULL, NULL, 'UTC', now()) ON CONFLICT DO NOTHING"


def start(stream_id: str = "s", **changes: object) -> StreamStart:
    given = {
        "customer_id": "acme",
        "time": T0,
        "provider": "anthropic",
        "model": "claude-opus-4.7",
        "input_tokens": 812,
        **changes,
    }
    return StreamStart(stream_id=stream_id, **given)  # type: ignore[arg-type]


def end(stream_id: str = "s", output: int = 37, **changes: object) -> StreamEnd:
    given = {
        "customer_id": "acme",
        "time": T0 + timedelta(seconds=4),
        "outcome": Outcome.COMPLETED,
        "usage": Usage(input_tokens=812, output_tokens=output),
        "usage_source": UsageSource.GATEWAY_COUNT,
        **changes,
    }
    return StreamEnd(stream_id=stream_id, **given)  # type: ignore[arg-type]


class Books:
    """A service with rates, to which events are given and whose bookings are read."""

    def __init__(self, database: Database, service: Service) -> None:
        self.database = database
        self.service = service
        self._months: set[tuple[int, int]] = set()

    def receive(self, events: Sequence[UsageEvent], at: datetime = NOW) -> None:
        """As ingest does: the events are joined, and journaled."""
        if (at.year, at.month) not in self._months:
            ensure_journal_partitions(self.service.engine, now=at)
            self._months.add((at.year, at.month))
        streams = fold(events)
        body = json_array([encode_event(event=event, source="/test") for event in events])
        entry = JournalEntry(
            ingest_key_id="key_test",
            received_at=at,
            media_type="application/cloudevents-batch+json",
            event_count=len(events),
            rejected=None,
            body=pack_body(body),
            stream_hashes=stream_hashes(streams),
        )
        parameters = upsert_parameters(
            streams.values(),
            first_received_at=at,
            received_at=at,
            abandon_after=self.service.patience.abandon_after,
        )
        with psycopg.connect(self.database.url) as connection:
            connection.execute(ADD_CUSTOMER)
            connection.execute(UPSERT, parameters)
            with connection.cursor() as cursor, cursor.copy(COPY_JOURNAL) as copy:
                copy.write_row(entry.copy_row())

    def audit(self, now: datetime = NOW, **wanted: Any) -> list[tuple[str, str, str]]:
        """(table, key, what it says) of each difference."""
        report = audit(engine=self.service.engine, now=now, **wanted)
        return [(each.table, each.key, each.says) for each in report.differences]

    def link_retries(self, now: datetime = NOW) -> int:
        return link_retries(
            engine=self.service.engine, window=self.service.patience.retry_window, now=now, limit=100
        )

    def finalize(self, now: datetime = NOW, limit: int = 100) -> FinalizeResult:
        return finalize_due(
            engine=self.service.engine,
            price_books=self.service.price_books,
            patience=self.service.patience,
            now=now,
            limit=limit,
        )

    def start_run(self, period: str, **terms: Any) -> InvoiceRun:
        with transaction(self.service.engine) as connection:
            return start_run(
                connection,
                period=BillingPeriod.parse(period),
                **{
                    "customer_id": None,
                    "force_reason": None,
                    "requested_by": "test",
                    "as_of": None,
                    "now": NOW,
                    **terms,
                },
            )

    def close(self, period: str, *, now: datetime | None = None, limit: int = 500, **terms: Any) -> dict[str, str]:
        """Close a month, two days after its end unless told when; whom it refused, and why."""
        end = BillingPeriod.parse(period).next.start(time_zone=ZoneInfo("UTC"))
        run = self.start_run(period, **terms)
        while not close_step(
            engine=self.service.engine,
            run=run,
            terms=CLOSE_TERMS,
            now=now or end + timedelta(days=2),
            limit=limit,
        ).done:
            pass
        with transaction(self.service.engine) as connection:
            finish_run(connection, run.run_id, now=NOW)
            refused = text("SELECT customer_id, detail FROM invoice_run_refusals WHERE run_id = :run_id")
            return {row.customer_id: row.detail for row in connection.execute(refused, {"run_id": run.run_id})}

    def invoices(self, customer_id: str = "acme") -> list[StoredInvoice]:
        """A customer's invoices, the oldest first."""
        with transaction(self.service.engine) as connection:
            found = list_invoices(
                connection, where=InvoiceFilter(customer_id=customer_id), before=None, limit=1000
            )
        return list(reversed(found))

    def stream(self, stream_id: str = "s") -> StreamView:
        with transaction(self.service.engine) as connection:
            view = get_stream(connection, customer_id="acme", stream_id=stream_id)
        assert view is not None
        return view

    def check_totals(self) -> Decimal:
        """Totals = charges + adjustments, to the last digit, before and after rolling up; returns the sum."""
        booked = self.sum_of("charges") + self.sum_of("adjustments") + self.sum_of("manual_adjustments")
        assert self.sum_of("totals_hourly") + self.sum_of("totals_pending") == booked
        roll_up_totals(self.service.engine)
        assert self.sum_of("totals_pending") == 0
        for rollup in ROLLUPS:
            assert self.sum_of(rollup.table) == booked
        return booked

    def sum_of(self, table: str) -> Decimal:
        with transaction(self.service.engine) as connection:
            return Decimal(
                connection.execute(text(f"SELECT coalesce(sum(usd_cents), 0) FROM {table}")).scalar_one()
            )

    def total_groups(self) -> set[tuple[str, int, Decimal]]:
        roll_up_totals(self.service.engine)
        with transaction(self.service.engine) as connection:
            rows = connection.execute(
                text("SELECT outcome, stream_count, usd_cents FROM totals_hourly WHERE stream_count <> 0")
            )
            return {(row.outcome, row.stream_count, row.usd_cents) for row in rows}


class Months(Books):
    """Books whose months are pushed to a local Stripe."""

    def __init__(self, database: Database, service: Service, stripe: LocalStripe) -> None:
        super().__init__(database, service)
        self.stripe = stripe
        self.now: Callable[[], datetime] = utc_now
        self.ahead = timedelta()
        redis = Redis.from_url(database.redis_url)
        limiter = Limiter(redis=redis, name=database.url, rates=Rates(in_all=10_000, per_endpoint=10_000))
        self.port = StripeClientPort(api_key=KEY, api_base=stripe.url, limiter=limiter)

    def pusher(self, **terms: object) -> Pusher:
        return Pusher(
            engine=self.service.engine,
            port=self.port,
            terms=PushTerms(environment=ENVIRONMENT, **terms),  # type: ignore[arg-type]
            clock=lambda: utc_now() + self.ahead,
        )

    def use(self, customer_id: str, *, output: int = 40_000, at: datetime = NOVEMBER, name: str = "s") -> None:
        """A stream of 100.406 cents."""
        with psycopg.connect(self.database.url) as connection:
            connection.execute(
                "INSERT INTO customers (customer_id, created_at) VALUES (%s, now()) ON CONFLICT DO NOTHING",
                (customer_id,),
            )
        events = [
            start(name, customer_id=customer_id, time=at),
            end(name, output, customer_id=customer_id, time=at + timedelta(seconds=4)),
        ]
        self.receive(events)
        self.finalize(now=max(at, NOVEMBER) + timedelta(days=15))

    def link(self, customer_id: str) -> str:
        """Make the customer one at Stripe."""
        stripe_customer_id = self.stripe.client.v1.customers.create({"name": customer_id}).id
        details = CustomerDetails(stripe_customer_id=stripe_customer_id)
        put_customer(engine=self.service.engine, customer_id=customer_id, details=details, now=utc_now())
        return stripe_customer_id

    def month(self, *customer_ids: str) -> None:
        """A used, linked and closed November."""
        for customer_id in customer_ids:
            self.use(customer_id)
            self.link(customer_id)
        self.close_november()

    def close_november(self) -> None:
        """Close it for everybody, as if its invoices were made at the time of the test."""
        assert self.close("2026-11") == {}
        with psycopg.connect(self.database.url) as connection:
            connection.execute("UPDATE invoices SET created_at = now()")
            connection.execute("UPDATE invoice_pushes SET due_at = now() WHERE due_at IS NOT NULL")

    def push(self, **terms: object) -> dict[PushState, int]:
        """One round over what is due."""
        return dict(push_due(pusher=self.pusher(**terms), limit=50, threads=4))

    def push_all(self, rounds: int = 30, **terms: object) -> None:
        """Rounds until none is under way, moving the clock on over waits and leases."""
        for _ in range(rounds):
            self.push(**terms)
            states = {row[0] for row in self.rows("SELECT state FROM invoice_pushes WHERE due_at IS NOT NULL")}
            if not states:
                return
            self.ahead += timedelta(seconds=301)
        raise AssertionError(f"still under way after {rounds} rounds: {states}")

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.database.url) as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, statement: str) -> None:
        """As the owner, who may change facts."""
        with psycopg.connect(self.database.url) as connection:
            connection.execute(statement.encode())

    def at_stripe(self) -> list[tuple[str, int, int]]:
        """(status, subtotal, lines) of all invoices there."""
        found = self.stripe.client.v1.invoices.list({"limit": 100}).data
        return [(each.status or "", each.subtotal, each.lines.total_count or 0) for each in found]

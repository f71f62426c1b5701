"""A service with rates, to which events are given and whose bookings are read."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from sqlalchemy import text

from metering.audit.run import audit
from metering.core.period import BillingPeriod
from metering.db.engine import transaction
from metering.db.schema import ensure_journal_partitions
from metering.emitter.cloudevents import encode_event, json_array
from metering.events.events import UsageEvent
from metering.events.store import INSERT_JOURNAL, JournalEntry, journal_columns, stream_hashes
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
from metering.streams.stream import facts_of, join_all
from metering.stripe.store.pushes import add_pushes
from tests.builders.events import NOW
from tests.database import Database
from tests.owner import owner

CLOSE_TERMS = CloseTerms(grace=timedelta(hours=24), minimum_cents=50, hand_over=add_pushes)
ADD_CUSTOMER = "INSERT INTO customers VALUES ('acme', NULL, NULL, 'UTC', now()) ON CONFLICT DO NOTHING"


class Books:
    """A service with rates, to which events are given and whose bookings are read."""

    def __init__(self, database: Database, service: Service) -> None:
        self.database = database
        self.service = service
        self._months: set[tuple[int, int]] = set()

    def owner(self) -> AbstractContextManager[psycopg.Connection]:
        """A transaction of the owner, who may change facts."""
        return owner(self.database.url)

    def receive(
        self,
        events: Sequence[UsageEvent],
        at: datetime | None = None,
        group: tuple[datetime, datetime] | None = None,
    ) -> None:
        """As ingest does: the events are joined, and journaled; unless told when, not before they happened.

        `group` is when the first and the last request arrived that were committed with this one.
        """
        at = at or max(NOW, *(event.time for event in events))
        if (at.year, at.month) not in self._months:
            ensure_journal_partitions(self.service.engine, now=at)
            self._months.add((at.year, at.month))
        streams = join_all(facts_of(event, received_at=at) for event in events)
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
            first_received_at=group[0] if group else at,
            received_at=group[1] if group else at,
            abandon_after=self.service.waits.abandon_after,
        )
        with self.owner() as connection:
            connection.execute(ADD_CUSTOMER)
            connection.execute(UPSERT, parameters)
            connection.execute(INSERT_JOURNAL, journal_columns([entry]))

    def audit(self, now: datetime = NOW, **wanted: Any) -> list[tuple[str, str, str]]:
        """(table, key, what it says) of each difference."""
        report = audit(engine=self.service.engine, now=now, **wanted)
        return [(each.table, each.key, each.says) for each in report.differences]

    def link_retries(self, now: datetime = NOW) -> int:
        return link_retries(engine=self.service.engine, window=self.service.waits.retry_window, now=now, limit=100)

    def finalize(self, now: datetime = NOW, limit: int = 100) -> FinalizeResult:
        return finalize_due(
            engine=self.service.engine,
            price_books=self.service.price_books,
            waits=self.service.waits,
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

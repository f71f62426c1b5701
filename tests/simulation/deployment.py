"""A simulated deployment: each verb is what a process of the real one does, on a clock of its own."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import psycopg
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError

from metering.corrections.adjust_manually import adjust_manually
from metering.customers.store import CustomerDetails
from metering.db.engine import DatabaseUnavailableError, transaction
from metering.ledger.entries import ManualKind
from metering.ledger.finalize_due import finalize_due
from metering.ledger.link_retries import link_retries
from metering.ledger.store.rollups import roll_up_totals
from metering.months.run_invoices import begin_scheduled_run, close_steps
from metering.months.store.runs import start_run
from metering.server.bootstrap import Service
from metering.streams.ingest.submission import NotCommittedError
from metering.stripe.push_due import Pusher, push_due
from metering.stripe.push_invoice import PushTerms
from metering.stripe.put_customer import put_customer
from metering.stripe.reconcile import Reconciliation, reconcile
from metering.stripe.repair_drift import Caps
from tests.builders import Months
from tests.builders.books import CLOSE_TERMS
from tests.builders.months import ENVIRONMENT
from tests.database import Database
from tests.simulation.edges import Edges
from tests.simulation.gateways import take

CAPS = Caps(cents=10**12, share=Decimal(1))
LOST = (OperationalError, DBAPIError, PendingRollbackError, DatabaseUnavailableError, NotCommittedError)
Event = dict


@dataclass(frozen=True, slots=True)
class Credit:
    """A credit that an admin asks for, again until it is confirmed: for a stream, or for all of a customer."""

    key: str
    customer_id: str
    cents: Decimal
    stream_id: str | None = None


class Process:
    """One process of the deployment, with connections and a clock of its own."""

    def __init__(self, months: Months, service: Service, edges: Edges, clock: Callable[[], datetime]) -> None:
        self._months, self._service, self.edges, self.clock = months, service, edges, clock
        edges.attach(service.engine)

    def take(self, batch: list[Event]) -> None:
        url = self._months.database.url
        take(batch, edges=self.edges, url=url, abandon_after=self._service.waits.abandon_after, now=self.clock())

    def finalize(self, limit: int) -> int:
        service = self._service
        done = finalize_due(
            engine=service.engine,
            price_books=service.price_books,
            waits=service.waits,
            now=self.clock(),
            limit=limit,
        )
        return done.claimed

    def link(self) -> None:
        window = self._service.waits.retry_window
        link_retries(engine=self._service.engine, window=window, now=self.clock(), limit=50)

    def roll_up(self) -> None:
        roll_up_totals(self._service.engine)

    def close(self) -> None:
        """What the schedule closes: the latest month that is over."""
        run = begin_scheduled_run(engine=self._service.engine, terms=CLOSE_TERMS, now=self.clock())
        if run is not None:
            for _ in close_steps(engine=self._service.engine, run=run, terms=CLOSE_TERMS, clock=self.clock):
                pass

    def force(self, period: object) -> None:
        """A person closes a month although streams of it may still settle."""
        with transaction(self._service.engine) as connection:
            run = start_run(
                connection,
                period=period,  # type: ignore[arg-type]
                customer_id=None,
                force_reason="simulated",
                requested_by="simulation",
                as_of=None,
                now=self.clock(),
            )
        for _ in close_steps(engine=self._service.engine, run=run, terms=CLOSE_TERMS, clock=self.clock):
            pass

    def push(self, limit: int = 8) -> int:
        return sum(push_due(pusher=self._pusher(), limit=limit, threads=1).values())

    def reconcile(self, *, repair: bool) -> Reconciliation:
        return reconcile(pusher=self._pusher(), period=None, repair=repair, caps=CAPS, requested_by="simulation")

    def credit(self, credit: Credit) -> None:
        adjust_manually(
            engine=self._service.engine,
            idempotency_key=credit.key,
            customer_id=credit.customer_id,
            stream_id=credit.stream_id,
            kind=ManualKind.CREDIT,
            usd_cents=credit.cents,
            reason="for the simulation",
            booked_by="simulation",
            now=self.clock(),
        )

    def with_money(self, work: Callable[[Service, datetime], None]) -> None:
        """What `Money` does, with the connections and the clock of this process."""
        work(self._service, self.clock())

    def put(self, customer_id: str, details: CustomerDetails) -> None:
        put_customer(engine=self._service.engine, customer_id=customer_id, details=details, now=self.clock())

    def _pusher(self) -> Pusher:
        return Pusher(
            engine=self._service.engine,
            port=self._months.port,
            terms=PushTerms(environment=ENVIRONMENT),
            clock=self.clock,
        )

    def survives(self, work: Callable[[], object]) -> bool:
        """Do it; False if the connection was lost, which a worker logs and tries again."""
        try:
            work()
        except LOST:
            if not self.edges.is_cut:
                raise
            return False
        return True


@dataclass(slots=True)
class Clock:
    """Made-up time. A process may be off by a while."""

    now: datetime
    off: timedelta = timedelta()

    def __call__(self) -> datetime:
        return self.now + self.off


@contextmanager
def processes(
    months: Months, database: Database, clocks: tuple[Clock, ...], reached: Counter[str]
) -> Iterator[list[Process]]:
    """As many processes as clocks."""
    with ExitStack() as stack:
        made: list[Process] = []
        for clock in clocks:
            service = stack.enter_context(database.service())
            edges = stack.enter_context(closing(Edges(database.url, reached=reached)))
            made.append(Process(months, service, edges, clock))
        yield made


def edit_at_stripe(months: Months, source: random.Random) -> bool:
    """Somebody changes a line of one of our invoices at Stripe, by some cents."""
    months.stripe.control.clear_faults()
    found = months.stripe.client.v1.invoices.list({"limit": 100, "status": "open"}).data
    if not found:
        return False
    line = source.choice(sorted(found, key=lambda each: each.description or "")).lines.data[0]
    months.stripe.control.edit(line.id, {"amount": line.amount + source.choice((-7, 11))}, recompute=True)
    return True


def admin_connection(database: Database) -> psycopg.Connection:
    return psycopg.connect(database.url, autocommit=True)

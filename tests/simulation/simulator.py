"""The simulator: a seeded schedule of what happens to a deployment over some months, and the end of it.

Everything that is random comes from the seed, so that a failure is replayed by it. Only ids that the product draws
by itself differ.
"""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from zoneinfo import ZoneInfo

from metering.access.store.idempotency import RequestInFlightError
from metering.core.period import BillingPeriod
from metering.corrections.adjust_manually import InvalidAdjustmentError
from metering.customers.store import CustomerDetails
from metering.db.schema import ensure_journal_partitions
from metering.events.queries import CLOCK_MARGIN
from metering.lab.stripe_local.faults import Fault
from metering.stripe.client.errors import StripeError
from metering.stripe.store.reconciliations import FoundDrift
from tests.builders import Months
from tests.database import Database
from tests.months.random_months import ZONES
from tests.simulation.deployment import (
    Clock,
    Credit,
    Process,
    admin_connection,
    edit_at_stripe,
    processes,
)
from tests.simulation.gateways import Gateways
from tests.simulation.money import Money
from tests.simulation.turns import take_turns

# Later than the rates of the tests became known.
BEGIN = datetime(2026, 11, 18, tzinfo=UTC)
SPAN = timedelta(days=55)
STREAMS = 40
STEPS = (timedelta(minutes=10), timedelta(hours=2), timedelta(hours=20), timedelta(days=3), timedelta(days=9))
FAULTS = (Fault.ERROR_BEFORE, Fault.ERROR_AFTER, Fault.LOST_REQUEST, Fault.LOST_REPLY, Fault.THROTTLE_NO_HEADER)
MOST_ROUNDS = 400
UTC_ZONE = ZoneInfo("UTC")
# Streams of which grants have paid something, and nothing was given back.
_DRAWN = """
    SELECT customer_id, stream_id FROM grant_entries WHERE stream_id IS NOT NULL
    GROUP BY 1, 2 HAVING bool_and(kind = 'drawn') ORDER BY 1, 2
"""
_TAKEN_BACK = "SELECT taken_back FROM newest_bills WHERE customer_id = %s AND stream_id = %s"
_PUSHES = "SELECT to_jsonb(p) FROM invoice_pushes p ORDER BY customer_id, invoice_id"


class Simulator:
    """One run of a seed. `reached` counts what really happened."""

    def __init__(self, months: Months, database: Database, seed: int) -> None:
        self.months, self._database = months, database
        self.random = random.Random(f"simulation {seed}")
        self.reached: Counter[str] = Counter()
        self.gateways = Gateways(self.random, begin=BEGIN, span=SPAN, count=STREAMS)
        self.money = Money(self.random, database, self.gateways)
        self.credits: list[Credit] = []
        self._open_credits: list[Credit] = []
        self._clocks = Clock(BEGIN), Clock(BEGIN)

    @property
    def now(self) -> datetime:
        return self._clocks[0].now

    def run(self) -> None:
        """Months of disorder, and then a quiet end in which everything settles."""
        with (
            processes(self.months, self._database, self._clocks, self.reached) as (first, second),
            admin_connection(self._database) as admin,
        ):
            self._processes, self._admin = (first, second), admin
            for customer_id in self.gateways.customers[1:]:
                self._link(first, customer_id)
            # Stripe creates nothing before the month that it is for, whatever this machine's clock says.
            ahead = max(timedelta(), BEGIN + 3 * SPAN - datetime.now(UTC))
            self.months.stripe.control.advance_clock(seconds=ahead.total_seconds())
            while self.now < BEGIN + SPAN:
                self._pass_time(self.random.choice(STEPS))
                for _ in range(self.random.randint(1, 3)):
                    self._happen()
                self._look()
            self._settle(first)

    def _pass_time(self, step: timedelta) -> None:
        for clock in self._clocks:
            clock.now += step
            clock.off = self.random.choice((0, 0, -0.5, 0.4)) * CLOCK_MARGIN
            self.reached["a clock is off"] += bool(clock.off)
        ensure_journal_partitions(self.months.service.engine, now=self.now)
        self.gateways.happen(self.now - timedelta(hours=2))

    def _happen(self) -> None:
        act = self.random.choice(
            (self._alone, self._alone, self._alone, self._together, self._together, self._trouble, self._people)
        )
        act()

    def _alone(self) -> None:
        """One process does some work, and may lose its connection in any transaction."""
        process = self.random.choice(self._processes)
        self._arm(process)
        name, work = self._work(process)
        self.reached[name] += 1
        if not process.survives(work):
            self.reached[f"{name}, cut"] += 1
        process.edges.arm(None)
        if name == "reconcile":
            self.reached["an invoice is edited at stripe"] += edit_at_stripe(self.months, self.random)
            self._reconcile_twice(process)

    def _look(self) -> None:
        """A worker looks for all its work, as it does every second; now and then it is cut short."""
        process = self.random.choice(self._processes)
        acts = [partial(process.with_money, each) for each in (self.money.act, self.money.act, self.money.expire)]
        for work in (*acts, process.link, lambda: process.finalize(20), process.close, process.push):
            self._arm(process, often=0.1)
            process.survives(work)
        process.edges.arm(None)

    def _together(self) -> None:
        """Two processes do some work, by turns from edge to edge."""
        works = [self._work(process) for process in self._processes]
        pairs = []
        for process, (_, work) in zip(self._processes, works, strict=True):
            self._arm(process, often=0.2)
            pairs.append((process.edges, lambda process=process, work=work: process.survives(work)))
        turns = take_turns(pairs, source=self.random, admin=self._admin)
        for process in self._processes:
            process.edges.arm(None)
        if "reconcile" in [name for name, _ in works]:
            self._reconcile_twice(process)
        self.reached["turns"] += turns
        self.reached[" and ".join(sorted(name for name, _ in works))] += bool(turns)

    def _arm(self, process: Process, often: float = 0.4) -> None:
        process.edges.arm(self.random.randrange(12) if self.random.random() < often else None)

    def _work(self, process: Process) -> tuple[str, Callable[[], object]]:
        limit = self.random.choice((1, 3, 20))
        return self.random.choice(
            (
                ("ingest", lambda: self._ingest(process)),
                ("ingest", lambda: self._ingest(process)),
                ("finalize", lambda: process.finalize(limit)),
                ("finalize", lambda: [process.finalize(limit) for _ in range(3)]),
                ("link", process.link),
                ("roll up", process.roll_up),
                ("close", process.close),
                ("push", lambda: process.push(limit)),
                ("push", lambda: process.push(limit)),
                ("reconcile", lambda: self._reconcile(process)),
                ("credit", lambda: self._credit(process)),
                ("money", lambda: process.with_money(self.money.act)),
                ("money", lambda: process.with_money(self.money.act)),
            )
        )

    def _ingest(self, process: Process) -> None:
        """The batches that have arrived; a batch without an answer is sent again."""
        for batch in self.gateways.arriving(self.now):
            if not process.survives(lambda batch=batch: process.take(batch)):
                self.gateways.send_again(batch, self.now)

    def _reconcile(self, process: Process) -> None:
        with suppress(StripeError):
            process.reconcile(repair=self.random.random() < 0.7)

    def _reconcile_twice(self, process: Process) -> bool:
        """Undisturbed: a second one right after finds what the first one left, and changes nothing.

        Returns whether the first one found anything.
        """
        self.months.stripe.control.clear_faults()
        first = process.reconcile(repair=True)
        pushes = self.months.rows(_PUSHES)
        self.months.stripe.control.clear_requests()
        second = process.reconcile(repair=True)
        # That an invoice is at a former customer is reported once.
        told = {each["invoice_id"] for each in first.relinked}
        left = [each for each in first.left if each.invoice_id not in told]
        assert [_finding(each) for each in second.found] == [_finding(each) for each in left]
        assert self.months.stripe.requests("POST") == self.months.stripe.requests("DELETE") == []
        assert self.months.rows(_PUSHES) == pushes
        self.reached["repaired, and nothing left"] += bool(first.repaired) and not left
        return bool(first.found)

    def _credit(self, process: Process) -> None:
        for credit in list(self._open_credits):
            try:
                is_over = process.survives(lambda credit=credit: process.credit(credit))
            except RequestInFlightError:  # the other process asks for it as well, right now
                continue
            except InvalidAdjustmentError:
                # Facts that contradict each other came meanwhile, so that there is no bill to credit.
                with self.months.owner() as connection:
                    key = (credit.customer_id, credit.stream_id)
                    assert connection.execute(_TAKEN_BACK, key).fetchall() == [(True,)], key
                self.credits.remove(credit)
                is_over = True
            if is_over:
                self._open_credits = [each for each in self._open_credits if each is not credit]

    def _trouble(self) -> None:
        """Stripe fails soon, or forgets its keys, or somebody edits an invoice there."""
        control = self.months.stripe.control
        match self.random.randrange(4):
            case 0:
                fault = self.random.choice(FAULTS)
                control.fail_next("*", fault, skip=self.random.randrange(6))
                self.reached["stripe fails"] += 1
            case 1 | 2:
                self.reached["an invoice is edited at stripe"] += edit_at_stripe(self.months, self.random)
            case 3:
                for clock in self._clocks:
                    clock.now += timedelta(days=1)
                control.forget_keys()

    def _people(self) -> None:
        """A customer gets another time zone, a link to Stripe or a credit; or a month is closed by force."""
        rows = self.months.rows("SELECT customer_id, stripe_customer_id FROM customers ORDER BY customer_id")
        if not rows:
            return
        customer_id, linked = self.random.choice(rows)
        process = self.random.choice(self._processes)
        match self.random.randrange(4):
            case 0:
                process.put(str(customer_id), CustomerDetails(time_zone=self.random.choice(ZONES)))
            case 1 if linked is None:
                self._link(process, str(customer_id))
            case 2:
                cents = -Decimal(self.random.randint(1, 10**7)).scaleb(-self.random.randint(3, 6))
                drawn = self.months.rows(_DRAWN)
                of, stream_id = self.random.choice(drawn) if drawn else (customer_id, None)
                credit = Credit(
                    f"credit {len(self.credits)}", str(of), cents, None if stream_id is None else str(stream_id)
                )
                self.credits.append(credit)
                self._open_credits.append(credit)
            case 3:
                process.force(BillingPeriod.containing(at=self.now, time_zone=UTC_ZONE).previous)

    def _link(self, process: Process, customer_id: str) -> None:
        self.months.stripe.control.clear_faults()
        made = self.months.stripe.client.v1.customers.create({"name": f"customer {len(self.reached)}"})
        process.put(customer_id, CustomerDetails(stripe_customer_id=made.id))

    def _settle(self, process: Process) -> None:
        """No more faults: all arrives, once more and in another order; all months are closed and pushed."""
        self.months.stripe.control.clear_faults()
        for clock in self._clocks:
            clock.off = timedelta()
        self._pass_time(timedelta(days=60))
        for clock in self._clocks:
            clock.off = timedelta()
        self.gateways.send_everything_again(self.now)
        self._ingest(process)
        self._credit(process)
        for _ in range(4):
            self._pass_quietly(timedelta(hours=1))
            process.link()
            self._until_none(lambda: process.finalize(100))
            process.with_money(self.money.expire)
        process.roll_up()
        process.force(BillingPeriod.containing(at=self.now, time_zone=UTC_ZONE).previous)
        for customer_id, linked in self.months.rows("SELECT customer_id, stripe_customer_id FROM customers"):
            if linked is None:
                self._link(process, str(customer_id))
        self._push_all(process)
        self.reached["an invoice is edited at stripe"] += edit_at_stripe(self.months, self.random)
        self.reached["drift found at the end"] += self._reconcile_twice(process)
        self._push_all(process)
        assert not self._reconcile_twice(process)

    def _push_all(self, process: Process) -> None:
        """Also those that wait after a failure, or for the lease of a process that was cut."""
        for _ in range(30):
            self._pass_quietly(timedelta(minutes=6))
            process.push(100)
            if not self.months.rows("SELECT FROM invoice_pushes WHERE due_at IS NOT NULL"):
                return
        raise AssertionError(str(self.months.rows("SELECT * FROM invoice_pushes WHERE due_at IS NOT NULL")))

    def _pass_quietly(self, step: timedelta) -> None:
        for clock in self._clocks:
            clock.now += step

    @staticmethod
    def _until_none(work: Callable[[], int]) -> None:
        for _ in range(MOST_ROUNDS):
            if not work():
                return
        raise AssertionError("there is always more to do")


def _finding(found: FoundDrift) -> tuple[object, ...]:
    """What a finding says, without its number."""
    return found.customer_id, found.invoice_id, found.period, found.finding

"""What must hold after chaos: every cost is exact, the audit is clean, every month adds up, nothing is stuck."""

import json
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction

import psycopg

from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.db.engine import service_engine, transaction
from metering.lab.chaos.commands import Commands
from metering.lab.chaos.oracle import Key, by_customer
from metering.lab.chaos.report import Checks
from metering.months.store.runs import open_run
from metering.server.queries import work_health

# The state that a Stripe invoice may be left in; others are under way or need attention.
_PUSHED = frozenset({"final", "paid", "deferred"})
_SHOWN = 10

_COSTS = """
    SELECT c.customer_id, c.stream_id, c.usd_cents + coalesce(sum(a.usd_cents), 0), count(a.stream_id)
    FROM charges c LEFT JOIN adjustments a USING (customer_id, stream_id)
    GROUP BY c.customer_id, c.stream_id, c.usd_cents
"""
_INVOICED = "SELECT customer_id, sum(exact_usd_cents) FROM invoices GROUP BY customer_id"
_ROUNDED = """
    SELECT count(*) FROM (
        SELECT sum(billed_cents) AS billed, sum(exact_usd_cents - prepaid_usd_cents) AS exact,
               (array_agg(remainder_usd_cents ORDER BY period DESC))[1] AS left_over
        FROM invoices GROUP BY customer_id) AS sums
    WHERE billed + left_over <> exact
"""
_PUSHES = "SELECT state, count(*) FROM invoice_pushes GROUP BY state"


class Checker:
    """The checks on one database; `commands` and the database's URL must not lead through a faulty link."""

    def __init__(self, *, database_url: str, commands: Commands, say: Callable[[str], None]) -> None:
        self._url = database_url
        self._commands = commands
        self._say = say
        self._problems: list[str] = []

    def wait_until_settled(self, *, within: float) -> None:
        """Return when no stream is due, open, or in need of a person; notes a problem if that takes too long."""
        engine = service_engine(self._url)
        deadline = time.monotonic() + within
        while True:
            with transaction(engine) as connection:
                health = work_health(connection, now=utc_now())
            if not health.due and not health.states:
                break
            if time.monotonic() > deadline:
                self._problems.append(f"after {within:g} s: {health.due} streams due, by state {health.states}")
                break
            time.sleep(0.5)
        engine.dispose()

    def check(self, expected: Mapping[Key, Fraction]) -> Checks:
        """Compare all with the oracle, close two more months, and reconcile."""
        self._say(f"comparing {len(expected):,} streams with the oracle")
        wrong, adjustments = self._compare_costs(expected)
        self._say("closing the month and the next one, and pushing")
        self._close_all()
        invoices = self._compare_invoices(expected)
        self._say("reconciling with Stripe")
        drift = int(self._commands.reconcile()["left"])
        if drift:
            self._problems.append(f"{drift} differences between our invoices and Stripe's")
        self._say("auditing")
        events, differences = self._audit()
        return Checks(
            streams=len(expected),
            wrong_costs=wrong,
            adjustments=adjustments,
            journaled_events=events,
            audit_differences=differences,
            invoices=invoices,
            drift=drift,
            cents=cents_text(_decimal(sum(expected.values(), Fraction(0)))),
            problems=self._problems,
        )

    def _compare_costs(self, expected: Mapping[Key, Fraction]) -> tuple[int, int]:
        """The number of streams with another cost than expected, missing and unknown ones among them."""
        left, wrong, adjustments = dict(expected), [], 0
        with psycopg.connect(self._url) as connection, connection.cursor("costs") as cursor:
            cursor.itersize = 10_000
            cursor.execute(_COSTS)
            for customer_id, stream_id, cents, adjusted in cursor:
                adjustments += adjusted
                want = left.pop((customer_id, stream_id), None)
                if want is None or Fraction(cents) != want:
                    wanted = "nothing" if want is None else cents_text(_decimal(want))
                    wrong.append(f"{customer_id}/{stream_id} costs {cents} cents, not {wanted}")
        wrong += [f"{customer_id}/{stream_id} is not charged" for customer_id, stream_id in left]
        if wrong:
            self._problems.append(f"{len(wrong)} streams differ from the oracle: {'; '.join(wrong[:_SHOWN])}")
        return len(wrong), adjustments

    def _close_all(self) -> None:
        # The month of the run is closed first, where it is still open.
        self._commands.close_month(force=False, month=1)
        deadline = time.monotonic() + 120
        while (left := {state: n for state, n in self._rows(_PUSHES) if state not in _PUSHED}) and (
            time.monotonic() < deadline
        ):
            if "unlinked" in left:
                # Stripe may have failed for some customers when all were linked; the workers push once they are.
                self._commands.link_customers()
            time.sleep(0.5)
        if left:
            self._problems.append(f"invoices that are not at Stripe, by state: {left}")
        engine = service_engine(self._url)
        with transaction(engine) as connection:
            run = open_run(connection)
        engine.dispose()
        if run is not None:
            self._problems.append(f"the run that closes {run.period} is not finished")

    def _compare_invoices(self, expected: Mapping[Key, Fraction]) -> int:
        """The sum of each customer's invoices is the sum of its streams, and nothing is lost by rounding."""
        wanted = {who: cents for who, cents in by_customer(expected.items()).items() if cents}
        found = {who: Fraction(cents) for who, cents in self._rows(_INVOICED) if cents}
        if wrong := [who for who in {*wanted, *found} if wanted.get(who) != found.get(who)]:
            self._problems.append(
                f"the invoices of {len(wrong)} customers do not add up, such as {wrong[:_SHOWN]}"
            )
        if rounded := self._rows(_ROUNDED)[0][0]:
            self._problems.append(
                f"{rounded} customers' cents and remainder are not their exact sum without what grants paid"
            )
        return int(self._rows("SELECT count(*) FROM invoices")[0][0])

    def _audit(self) -> tuple[int, int]:
        _, printed = self._commands.run("audit", "--json")
        report = json.loads(printed)
        if report["difference_count"]:
            self._problems.append(f"the audit: {report['differences'][:_SHOWN]}")
        if report["pending"]:
            self._problems.append(f"{report['pending']} streams wait for the finalizer")
        return int(report["events"]), int(report["difference_count"])

    def _rows(self, query: str) -> list[tuple]:  # type: ignore[type-arg]
        with psycopg.connect(self._url) as connection:
            return connection.execute(query.encode()).fetchall()


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)

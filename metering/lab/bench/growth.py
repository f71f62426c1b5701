"""`metering bench growth`: the same work on a database with ever more charges, and what of its cost grows.

Each size has a database of its own: ten months of charges whose streams are archived, nine of them closed. Then
gateways post, a worker finalizes, people ask and look, the tenth month is closed and exported, and all is audited.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter, sleep

import msgspec

from metering.core.clock import utc_now
from metering.core.period import BillingPeriod
from metering.lab.bench.commands import Ran, run_command
from metering.lab.bench.growth_history import LAST, PERIODS, fill_history
from metering.lab.bench.machine import Machine, describe_machine, resident_megabytes, resident_megabytes_of_all
from metering.lab.bench.stage import BenchFailedError, Say, Stage, Stages, stage
from metering.lab.bench.totals import open_page, p99_ms, rows_of, signed_in
from metering.lab.bench.workload import Workload

_YEAR = {"from": "2026-01-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}
_MONTH = {"from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}
_CUSTOMER = "cust_000003"
QUESTIONS: Mapping[str, Mapping[str, str]] = {
    "totals of ten months by month": {**_YEAR, "granularity": "month"},
    "totals of ten months by customer": {**_YEAR, "group_by": "customer_id", "limit": "1000"},
    "totals of a month by customer, model and day": {
        **_MONTH,
        "group_by": "customer_id,model",
        "granularity": "day",
    },
    "totals of a customer's month by day": {**_MONTH, "granularity": "day", "customer_id": _CUSTOMER},
}
PAGES: Mapping[str, str] = {
    "page: overview": f"/dashboard/?month={LAST}",
    "page: overview, 15 days and the 15 before": "/dashboard/?first=2026-10-17&last=2026-10-31",
    "page: streams": f"/dashboard/streams?month={LAST}",
    "page: customers": f"/dashboard/customers?month={LAST}",
    "page: a customer": f"/dashboard/customer?customer_id={_CUSTOMER}&month={LAST}",
    "page: invoices": "/dashboard/invoices",
    "page: month end": f"/dashboard/month-end?month={LAST}",
    "page: backlog": "/dashboard/backlog",
}
_WORKLOAD = Workload(events_per_request=100, open_streams=10, events_per_stream=10)
_CONNECTIONS = 32
_ENDED = "end_rank IS NOT NULL"
_LEAD_SECONDS = 10


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was done. `unit` is of `measured`: a rate, or a time."""

    what: str
    unit: str
    measured: float


class Grown(msgspec.Struct, frozen=True, kw_only=True):
    """One size: how long it took to fill, what it takes on disk, and the work done on it."""

    charges: int
    filled_seconds: float
    database_megabytes: float
    charges_megabytes: float
    totals_megabytes: float
    works: list[Work]


class GrowthReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench growth`, the sizes in the order in which they were given."""

    machine: Machine
    customers: int
    sizes: list[Grown]


def bench_growth(
    *,
    sizes: Sequence[int],
    customers: int,
    seconds: float,
    say: Say,
    times: int = 20,
    stages: Stages = stage,
) -> GrowthReport:
    """Measure each size, a number of charges. Gateways post for `seconds`; questions are asked `times` times.

    Raises:
        BenchFailedError: something could not be done, or the audit found a difference.
    """
    found = []
    for charges in sizes:
        with stages() as running:
            found.append(_Size(running, customers, seconds, times, say).measure(charges))
            machine = describe_machine(now=utc_now(), postgres=running.postgres_version())
    return GrowthReport(machine=machine, customers=customers, sizes=found)


class _Size:
    """The work on a database of one size, in turn."""

    def __init__(self, running: Stage, customers: int, seconds: float, times: int, say: Say) -> None:
        self._running = running
        self._customers = customers
        self._seconds = seconds
        self._times = times
        self._say = say
        self._works: list[Work] = []

    def measure(self, charges: int) -> Grown:
        filled = self._fill(charges)
        self._running.start_api()
        self._ask_and_look()
        self._post_and_finalize()
        self._close(charges)
        self._export()
        self._audit()
        charged, summed, whole = self._megabytes()
        return Grown(
            charges=charges,
            filled_seconds=filled,
            database_megabytes=whole,
            charges_megabytes=charged,
            totals_megabytes=summed,
            works=self._works,
        )

    def _note(self, what: str, unit: str, measured: float) -> None:
        self._works.append(Work(what=what, unit=unit, measured=measured))
        self._say(f"{what:46} {measured:12,.0f} {unit}")

    def _fill(self, charges: int) -> float:
        self._say(f"storing {charges:,} charges of {self._customers:,} customers in {len(PERIODS)} months ...")
        began = perf_counter()
        fill_history(self._running, charges=charges, customers=self._customers)
        filled = perf_counter() - began
        self._say(f"stored in {filled:.0f} s; closing the months before {LAST} ...")
        self._run_invoices(LAST.previous)
        self._say(f"closed in {perf_counter() - began - filled:.0f} s")
        return filled

    def _ask_and_look(self) -> None:
        with signed_in(self._running) as client:
            for what, question in QUESTIONS.items():
                self._note_time(what, partial(rows_of, client, question))
            for what, path in PAGES.items():
                self._note_time(what, partial(open_page, client, path))

    def _note_time(self, what: str, ask: Callable[[], int]) -> None:
        self._note(f"{what}, p99", "ms", p99_ms(ask, times=self._times))

    def _post_and_finalize(self) -> None:
        running = self._running
        driven = running.drive(_WORKLOAD, connections=_CONNECTIONS, seconds=self._seconds, seed=1)
        self._note("ingest, 100 events a request", "events/s", driven.events / driven.seconds)
        self._note("memory of the API", "MB", resident_megabytes(running.pid_of("api")))
        # All become due at once, when the worker has started.
        running.execute(f"UPDATE streams SET due_at = now() + interval '{_LEAD_SECONDS} s' WHERE {_ENDED}")
        due_at = perf_counter() + _LEAD_SECONDS
        worker = running.start_worker()
        running.wait_until_a_worker_works()
        ended = running.one(f"SELECT count(*) FROM streams WHERE {_ENDED} AND state <> 'finalized'")
        sleep(max(0.0, due_at - perf_counter()))
        running.nudge()
        began = perf_counter()
        running.wait_until_nothing_is_due()
        self._note("finalizing, 1 worker process", "streams/s", ended / (perf_counter() - began))
        self._note("memory of the worker", "MB", resident_megabytes_of_all(worker))

    def _close(self, charges: int) -> None:
        ran = self._run_invoices(LAST)
        self._note(f"closing {LAST}", "s", ran.seconds)
        self._note(f"closing {LAST}", "charges/s", charges / len(PERIODS) / ran.seconds)
        self._note("memory of the command that closes", "MB", ran.peak_megabytes)

    def _run_invoices(self, period: BillingPeriod) -> Ran:
        """Close the months up to this one. The exit code 2 says that invoices still have to be pushed."""
        options = ["--period", str(period), "--no-push", "--json"]
        ran = run_command(self._running, "invoices", "run", *options, exit_codes=(0, 2))
        if refused := msgspec.json.decode(ran.printed)["refused"]:
            raise BenchFailedError(f"{len(refused):,} customers' months stay open: {refused[0]}")
        return ran

    def _export(self) -> None:
        options = ["--period", str(LAST), "--format", "csv", "--out", os.devnull, "--json"]
        ran = run_command(self._running, "export", "charges", *options)
        self._note(f"exporting {LAST} as CSV", "rows/s", msgspec.json.decode(ran.printed)["rows"] / ran.seconds)
        self._note("memory of the command that exports", "MB", ran.peak_megabytes)

    def _audit(self) -> None:
        ran = run_command(self._running, "audit", "--json")
        self._note("audit of everything", "s", ran.seconds)

    def _megabytes(self) -> tuple[float, float, float]:
        """Of charges, of sums, and of the whole database, indexes included."""
        size = "SELECT sum(pg_total_relation_size(oid)) / 1e6 FROM pg_class WHERE relkind = 'r' AND relname"
        charged = self._running.one(f"{size} = 'charges'")
        summed = self._running.one(f"{size} LIKE 'totals_%'")
        whole = self._running.one("SELECT pg_database_size(current_database()) / 1e6")
        self._say(f"on disk: charges {charged:,} MB, totals {summed:,} MB, everything {whole:,} MB")
        return charged, summed, whole

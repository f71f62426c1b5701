"""`metering bench speed`: the headline speeds in one run, each beside its floor, as ratios.

A ratio says more than a figure: it hardly depends on the machine, and other work on it slows both down.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import httpx2
import msgspec
import psutil

from metering.alerts.alerts import AlertKind
from metering.core.clock import utc_now
from metering.exports.export_month import ExportFormat, ExportKind
from metering.lab.bench.alerts import create_alerts, evaluate_all, fill_customers
from metering.lab.bench.audit import run_audit
from metering.lab.bench.bare import (
    bare_copy_per_second,
    bare_first_day_ms,
    bare_occurrences_per_second,
    decoded_per_second,
)
from metering.lab.bench.exports import fill_streams_of_charges, run_export
from metering.lab.bench.filling import fill_charges
from metering.lab.bench.finalize import bench_finalize
from metering.lab.bench.floor import bare_events_per_second
from metering.lab.bench.gateway import printing_its_port
from metering.lab.bench.invoices import close_month, fill_month
from metering.lab.bench.machine import Machine, describe_machine
from metering.lab.bench.stage import Say, Stage, Stages, stage
from metering.lab.bench.totals import time_question
from metering.lab.bench.workload import Workload


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured: the defaults are those of docs/performance.md and take about a quarter of an hour."""

    seconds: float = 8.0
    warm_up_seconds: float = 2.0
    bare_events: int = 400_000
    finalized: int = 150_000
    lead: timedelta = timedelta(seconds=10)
    summed: int = 2_000_000
    questions: int = 40
    exporting_customers: int = 500
    charges_of_customer: int = 1_000
    alerted_customers: int = 100_000
    hours: int = 30


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """A headline speed beside its floor.

    `ratio` is the part of the floor's speed that is reached: 1 is as fast, 0.5 takes twice as long. `aim` is of
    the measured figure; a time is to be below it.
    """

    what: str
    unit: str
    measured: float
    floor_is: str
    floor: float
    ratio: float
    aim: float | None

    @property
    def reaches_aim(self) -> bool | None:
        """None without an aim."""
        if self.aim is None:
            return None
        return self.measured <= self.aim if self.unit == "ms" else self.measured >= self.aim


class SpeedReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench speed`. `load` is of the machine just before: other work slows all of it."""

    machine: Machine
    load: float
    size: Size
    rows: list[Speed]


def bench_speed(*, size: Size, say: Say, stages: Stages = stage) -> SpeedReport:
    """Measure each part on a database of its own."""
    load = psutil.getloadavg()[0]
    rows: list[Speed] = []

    def note(row: Speed) -> None:
        rows.append(row)
        say(f"{row.what}: {row.measured:,.0f} {row.unit}; {row.floor_is}: {row.floor:,.0f}; ratio {row.ratio:.2f}")

    with stages() as running:
        machine = describe_machine(now=utc_now(), postgres=running.postgres_version())
        _ingest(running, size, note)
    for part in (_two_processes, _beside_a_worker, _totals, _exports, _audit, _alerts):
        with stages() as running:
            part(running, size, note)
    _finalize(size, note, stages)
    return SpeedReport(machine=machine, load=load, size=size, rows=rows)


Note = Callable[[Speed], None]

_BARE = "bare psycopg"
# As many as the ingest writer has under this load.
_REQUESTS_PER_COMMIT = 16
_COPY = "bare COPY of the same rows"


def _rate(what: str, measured: float, floor_is: str, floor: float, *, aim: float | None, unit: str) -> Speed:
    return Speed(
        what=what,
        unit=unit,
        measured=measured,
        floor_is=floor_is,
        floor=floor,
        ratio=measured / floor,
        aim=aim,
    )


def _time(what: str, measured: float, floor_is: str, floor: float, *, aim: float) -> Speed:
    return Speed(
        what=what, unit="ms", measured=measured, floor_is=floor_is, floor=floor, ratio=floor / measured, aim=aim
    )


def _drive(running: Stage, workload: Workload, *, connections: int, size: Size, port: int | None = None) -> float:
    """Events per second over HTTP."""
    driven = running.drive(
        workload,
        connections=connections,
        seconds=size.seconds,
        warm_up_seconds=size.warm_up_seconds,
        seed=connections,
        port=port,
    )
    return driven.events / driven.seconds


def _bare(running: Stage, workload: Workload, size: Size) -> float:
    events, group = size.bare_events, _REQUESTS_PER_COMMIT
    return bare_events_per_second(running, workload, events=events, requests_per_commit=group, seed=9_000_000)


_SINGLE = Workload(events_per_request=1)
_HUNDRED = Workload(events_per_request=100)
# Each request of a hundred events is of ten whole streams.
_TEN_STREAMS = Workload(events_per_request=100, open_streams=10, events_per_stream=10)


def _ingest(running: Stage, size: Size, note: Note) -> None:
    running.start_api()
    with printing_its_port("asgi_floor") as (_, port):
        floor = _drive(running, _SINGLE, connections=64, size=size, port=port)
    measured = _drive(running, _SINGLE, connections=64, size=size)
    what = "one event a request, 64 connections"
    note(_rate(what, measured, "bare ASGI server, which stores nothing", floor, aim=15_000, unit="events/s"))
    measured = _drive(running, _HUNDRED, connections=32, size=size)
    floor = _bare(running, _HUNDRED, size)
    note(_rate("100 events a request, 32 connections", measured, _BARE, floor, aim=None, unit="events/s"))


def _two_processes(running: Stage, size: Size, note: Note) -> None:
    running.start_api(processes=2)
    measured = _drive(running, _HUNDRED, connections=32, size=size)
    floor = _bare(running, _HUNDRED, size)
    note(_rate("the same, two API processes", measured, _BARE, floor, aim=190_000, unit="events/s"))


def _beside_a_worker(running: Stage, size: Size, note: Note) -> None:
    running.start_api()
    running.start_worker()
    running.wait_until_a_worker_works()
    measured = _drive(running, _TEN_STREAMS, connections=32, size=size)
    floor = _bare(running, _TEN_STREAMS, size)
    what = "100 events of 10 streams a request, a worker finalizing beside"
    note(_rate(what, measured, _BARE, floor, aim=110_000, unit="events/s"))


def _finalize(size: Size, note: Note, stages: Stages) -> None:
    found = bench_finalize(streams=size.finalized, say=_silent, stages=stages, lead=size.lead)
    for row, aim in zip(found.rows, (20_000, 30_000), strict=True):
        what = f"finalizing, {row.workers} worker process{'es' if row.workers > 1 else ''}"
        floor = found.bare_streams_per_second
        note(_rate(what, row.streams_per_second, "bare COPY and UPDATE", floor, aim=aim, unit="streams/s"))


def _totals(running: Stage, size: Size, note: Note) -> None:
    fill_charges(running, size.summed)
    running.start_api()
    with httpx2.Client(base_url=running.url, headers=running.reader_headers(), timeout=60) as client:
        ask = partial(time_question, client, times=size.questions)
        floor = bare_first_day_ms(running, times=size.questions)
        what = f"totals by customer, model and day, {size.summed:,} charges, p99"
        measured = ask("month by customer, model and day")
        note(_time(what, measured, "the first day's sums by bare psycopg", floor, aim=150))
        floor, measured = ask("month by day"), ask("month by day, in Kolkata")
        note(_time("days of a half-hour time zone, p99", measured, "the same days in UTC", floor, aim=150))


def _exports(running: Stage, size: Size, note: Note) -> None:
    fill_month(
        running,
        customers=size.exporting_customers,
        lines=10,
        charges_per_line=size.charges_of_customer // 10,
        in_time_order=True,
    )
    fill_streams_of_charges(running)
    close_month(running)
    floor = bare_copy_per_second(running)
    with TemporaryDirectory() as folder:
        for kind, format, aim in (
            (ExportKind.CHARGES, ExportFormat.CSV, floor / 2),
            (ExportKind.CHARGES, ExportFormat.PARQUET, 150_000),
            (ExportKind.FOCUS, ExportFormat.CSV, 60_000),
        ):
            row = run_export(running, kind, format, Path(folder), _silent)
            what = f"export of {kind.value} as {format.value}"
            note(_rate(what, row.rows_per_second, _COPY, floor, aim=aim, unit="rows/s"))


def _audit(running: Stage, size: Size, note: Note) -> None:
    running.start_api()
    running.start_worker()
    workload = Workload(events_per_request=100, open_streams=20, events_per_stream=4)
    _drive(running, workload, connections=8, size=size)
    running.wait_until_nothing_is_due()
    row = run_audit(running)
    floor = decoded_per_second(running)
    what = "audit, 4 events a stream"
    note(_rate(what, row.events_per_second, "reading and decoding alone", floor, aim=60_000, unit="events/s"))


def _alerts(running: Stage, size: Size, note: Note) -> None:
    fill_customers(running, customers=size.alerted_customers, hours=size.hours)
    create_alerts(running)
    running.execute("UPDATE alerts SET budget_usd_cents = 1, version = 2 WHERE kind = 'spend'")
    began = perf_counter()
    occurred = evaluate_all(running, AlertKind.SPEND)
    seconds = perf_counter() - began
    floor = bare_occurrences_per_second(running)
    what = f"{occurred:,} alerts fire at once"
    aim = 400_000 / 20
    note(_rate(what, occurred / seconds, "two INSERTs of the same rows", floor, aim=aim, unit="occurrences/s"))


def _silent(_: str) -> None:
    """Say nothing: the run has a line for each row."""

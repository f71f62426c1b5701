"""`metering bench ingest`: posts to a real server over HTTP from another process, and measures the floor."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median
from time import perf_counter

import msgspec

from metering.core.clock import utc_now
from metering.lab.bench.driver import Driven
from metering.lab.bench.filling import fill_streams
from metering.lab.bench.floor import bare_events_per_second
from metering.lab.bench.machine import Machine, cpu_seconds, describe_machine, resident_megabytes
from metering.lab.bench.stage import Say, Stage, Stages, stage
from metering.lab.bench.workload import Workload

# (events per request, connections)
SHAPES = (
    (1, 1),
    (1, 8),
    (1, 32),
    (1, 64),
    (20, 32),
    (100, 1),
    (100, 8),
    (100, 32),
    (100, 64),
    (1000, 8),
    (1000, 32),
)
MAIN = (100, 32)
# The bare floor writes this many events for each timed second of HTTP.
_BARE_EVENTS_PER_SECOND = 75_000

_JOURNAL = """
SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'journal'::regclass
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is posted: each shape (events of a request, connections) for `seconds`, and `main` for the rest."""

    seconds: float
    warm_up_seconds: float = 2.0
    shapes: Sequence[tuple[int, int]] = SHAPES
    main: tuple[int, int] = MAIN
    rounds: int = 3


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One run. CPU time, WAL and disk are per event of the whole run, warm-up included."""

    what: str
    events_per_request: int
    connections: int
    events_per_second: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    refused: dict[str, int]
    requests_per_commit: float
    api_cpu_microseconds: float
    postgres_cpu_microseconds: float
    client_cpu_microseconds: float
    wal_bytes: float
    journal_disk_bytes: float
    api_peak_megabytes: float


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """HTTP and bare psycopg in alternating rounds; `ratio` is the median of the rounds' ratios."""

    requests_per_commit: int
    http_events_per_second: list[float]
    bare_events_per_second: list[float]
    ratio: float


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """The same load on an almost empty database, and on one with `stored_streams`."""

    stored_streams: int
    empty: Row
    grown: Row
    ratio: float


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """A long run under full load, with the memory of the API process every ten seconds."""

    row: Row
    seconds: float
    megabytes: list[float]


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """Ingest while one worker finalizes, on a new database."""

    row: Row
    finalized_per_second: float


class IngestReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench ingest`; a part that was not requested is None."""

    machine: Machine
    rows: list[Row]
    beside: Beside
    floor: Floor
    growth: Growth | None
    soak: Soak | None


class _Bench:
    """The runs on a stage with a running API."""

    def __init__(self, running: Stage, load: Load, say: Say) -> None:
        self.stage = running
        self.load = load
        self._say = say
        self._seeds = count(1)

    def run(self, what: str, shape: tuple[int, int]) -> Row:
        """Drive one shape of load, and measure it."""
        row, _ = self._watch(what, shape, self.load.seconds)
        return row

    def _watch(self, what: str, shape: tuple[int, int], seconds: float) -> tuple[Row, list[float]]:
        """A run, and the memory of the API process in MB at each of its seconds."""
        events_per_request, connections = shape
        api, postgres = self.stage.pid_of("api"), self.stage.pid_of("postgres")
        memory: list[float] = []
        before = self._counters(api, postgres)
        driven = self.stage.drive(
            Workload(events_per_request=events_per_request),
            connections=connections,
            seconds=seconds,
            seed=next(self._seeds),
            warm_up_seconds=self.load.warm_up_seconds,
            meanwhile=lambda: memory.append(round(resident_megabytes(api), 1)),
        )
        after = self._counters(api, postgres)
        memory.append(round(resident_megabytes(api), 1))  # a short run has no other
        row = _row(what, shape, driven, {name: after[name] - before[name] for name in after}, max(memory))
        self._say(
            f"{what:24} {events_per_request:5} events x {connections:2} connections:"
            f" {row.events_per_second:9,.0f} events/s, {row.requests_per_second:6,.0f} requests/s,"
            f" p99 {row.p99_ms:6.1f} ms"
        )
        return row, memory

    def floor(self) -> Floor:
        """Alternate HTTP and bare psycopg, so that changes of the machine's speed affect both."""
        http, bare, group = [], [], 1
        for _ in range(self.load.rounds):
            row = self.run("floor: http", self.load.main)
            group = max(1, round(row.requests_per_commit))
            http.append(row.events_per_second)
            workload = Workload(events_per_request=self.load.main[0])
            seed = 1_000_000 + next(self._seeds)
            bare.append(
                bare_events_per_second(
                    self.stage,
                    workload,
                    events=round(self.load.seconds * _BARE_EVENTS_PER_SECOND),
                    requests_per_commit=group,
                    seed=seed,
                )
            )
            self._say(f"floor: bare psycopg, {group} requests per transaction: {bare[-1]:,.0f} events/s")
        ratio = median(one / other for one, other in zip(http, bare, strict=True))
        return Floor(
            requests_per_commit=group, http_events_per_second=http, bare_events_per_second=bare, ratio=ratio
        )

    def growth(self, stored_streams: int) -> Growth:
        """Measure before and after `stored_streams` are stored."""
        empty = self.run("before growth", self.load.main)
        self._say(f"storing {stored_streams:,} streams ...")
        fill_streams(self.stage, stored_streams)
        grown = self.run("after growth", self.load.main)
        return Growth(
            stored_streams=stored_streams,
            empty=empty,
            grown=grown,
            ratio=grown.events_per_second / empty.events_per_second,
        )

    def soak(self, seconds: float) -> Soak:
        """A long run."""
        row, memory = self._watch("soak", self.load.main, seconds)
        return Soak(row=row, seconds=seconds, megabytes=memory[::10])

    def _counters(self, api: int, postgres: int) -> dict[str, float]:
        return {
            "api": cpu_seconds(api),
            "postgres": cpu_seconds(postgres),
            "wal": self.stage.wal_bytes(),
            "journal": self.stage.one(_JOURNAL),
            "commits": self.stage.metric("metering_ingest_commits_total"),
        }


def _row(what: str, shape: tuple[int, int], driven: Driven, took: dict[str, float], peak: float) -> Row:
    events = max(1, driven.all_events)
    return Row(
        what=what,
        events_per_request=shape[0],
        connections=shape[1],
        events_per_second=driven.events / driven.seconds,
        requests_per_second=driven.requests / driven.seconds,
        p50_ms=driven.p50_ms,
        p99_ms=driven.p99_ms,
        worst_ms=driven.worst_ms,
        refused=driven.refused,
        requests_per_commit=driven.all_events / shape[0] / max(1.0, took["commits"]),
        api_cpu_microseconds=took["api"] / events * 1e6,
        postgres_cpu_microseconds=took["postgres"] / events * 1e6,
        client_cpu_microseconds=driven.cpu_seconds / events * 1e6,
        wal_bytes=took["wal"] / events,
        journal_disk_bytes=took["journal"] / events,
        api_peak_megabytes=peak,
    )


def _beside(load: Load, say: Say, stages: Stages) -> Beside:
    with stages() as running:
        running.start_api()
        running.start_worker()
        running.wait_until_a_worker_works()
        began = perf_counter()
        row = _Bench(running, load, say).run("worker finalizing beside", load.main)
        finalized = running.one("SELECT count(*) FROM charges")
        return Beside(row=row, finalized_per_second=finalized / (perf_counter() - began))


def bench_ingest(
    *, load: Load, stored_streams: int, soak_seconds: float, say: Say, stages: Stages = stage
) -> IngestReport:
    """Measure every shape, the floor, ingest beside a worker, and on request growth and a long run."""
    with stages() as running:
        running.start_api()
        bench = _Bench(running, load, say)
        rows = [bench.run("api alone", shape) for shape in load.shapes]
        floor = bench.floor()
        growth = bench.growth(stored_streams) if stored_streams else None
        soak = bench.soak(soak_seconds) if soak_seconds else None
        return IngestReport(
            machine=describe_machine(now=utc_now(), postgres=running.postgres_version()),
            rows=rows,
            beside=_beside(load, say, stages),
            floor=floor,
            growth=growth,
            soak=soak,
        )

"""`metering bench neighbours`: how long a quiet client waits alone, and beside each kind of noisy ones.

The API is a process of its own, and so is each client. Windows alone and beside take turns, so that the machine's
other work falls on both: the ratio says more than the milliseconds.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from time import monotonic

import msgspec

from metering.access.manage_access import create_key
from metering.access.scopes import Role
from metering.core.clock import utc_now
from metering.lab.bench.filling import fill_charges
from metering.lab.bench.machine import Machine, describe_machine
from metering.lab.bench.neighbours_clients import Order, Sample, Seen
from metering.lab.bench.stage import BenchFailedError, Say, Stage, Stages, stage

# Until the clients run, and for a noise to begin or to be over.
_START_SECONDS, _GAP_SECONDS = 3.0, 1.0
_EXTRA_SECONDS = 120.0


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of neighbour, and the aim for the quiet client's p99 beside it."""

    kind: str
    what: str
    connections: int
    role: Role = Role.INGEST
    aim: float | None = None


NOISES = (
    Noise(kind="large bodies", what="8 connections of one key, 8,000 events a request", connections=8, aim=3.0),
    Noise(kind="bad events", what="4 connections of one key, 10,000 bad events a request", connections=4, aim=3.0),
    Noise(kind="totals", what="200 readers of totals by hour", connections=200, role=Role.READ, aim=2.0),
    Noise(kind="connections", what="2,100 idle connections and 2,100 slow readers", connections=4_200),
    Noise(kind="unknown keys", what="20 connections with unknown keys", connections=20),
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The quiet client beside one kind of noise, and alone in the windows between. Counts are by status."""

    what: str
    requests: int
    alone_p50_ms: float
    alone_p99_ms: float
    beside_p50_ms: float
    beside_p99_ms: float
    ratio: float
    aim: float | None
    quiet: dict[str, int]
    noisy: dict[str, int]
    livez: int
    livez_failed: int
    livez_worst_ms: float
    load: float


class NeighboursReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench neighbours`; ratios are of p99 beside to p99 alone."""

    machine: Machine
    charges: int
    rate: float
    rows: list[Row]


def bench_neighbours(
    *,
    seconds: float,
    rounds: int,
    charges: int,
    say: Say,
    rate: float = 50.0,
    noises: Sequence[Noise] = NOISES,
    stages: Stages = stage,
) -> NeighboursReport:
    """Measure `rounds` windows alone and as many beside each noise, of `seconds` each."""
    rows = []
    with stages() as running:
        if charges:
            say(f"storing {charges:,} charges ...")
            fill_charges(running, charges)
        running.start_api()
        for noise in noises:
            rows.append(_measure(running, noise, seconds=seconds, rounds=rounds, rate=rate))
            say(_line(rows[-1]))
        machine = describe_machine(now=utc_now(), postgres=running.postgres_version())
    return NeighboursReport(machine=machine, charges=charges, rate=rate, rows=rows)


def _measure(running: Stage, noise: Noise, *, seconds: float, rounds: int, rate: float) -> Row:
    alone, beside = _windows(monotonic() + _START_SECONDS, seconds, rounds)
    noisy_key = create_key(
        engine=running.service.engine, role=noise.role, name="noisy", customer_id=None, now=utc_now()
    )
    everything = [(alone[0][0] - _GAP_SECONDS, max(alone[-1][1], beside[-1][1]))]
    orders = (
        Order(kind="quiet", port=running.port, key=running.key, connections=1, windows=everything, rate=rate),
        Order(
            kind=noise.kind,
            port=running.port,
            key=str(noisy_key),
            connections=noise.connections,
            # The noise begins before its window and ends after it.
            windows=[(begin - _GAP_SECONDS / 2, end) for begin, end in beside],
        ),
    )
    quiet, noisy = _carry_out(orders, seconds=everything[0][1] - monotonic())
    apart, together = _within(quiet.samples, alone), _within(quiet.samples, beside)
    livez = _within(quiet.livez, beside)
    return Row(
        what=noise.what,
        requests=len(together),
        alone_p50_ms=_at(apart, 0.5),
        alone_p99_ms=_at(apart, 0.99),
        beside_p50_ms=_at(together, 0.5),
        beside_p99_ms=_at(together, 0.99),
        ratio=_at(together, 0.99) / _at(apart, 0.99),
        aim=noise.aim,
        quiet=dict(Counter(str(sample.status) for sample in together)),
        noisy=noisy.statuses,
        livez=len(livez),
        livez_failed=sum(sample.status != 200 for sample in livez),
        livez_worst_ms=max((sample.ms for sample in livez), default=0.0),
        load=round(os.getloadavg()[0], 1),
    )


def _windows(
    begin: float, seconds: float, rounds: int
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """The windows alone and beside, in turn, with a gap after each."""
    each = seconds + _GAP_SECONDS
    at = [begin + number * each for number in range(2 * rounds)]
    windows = [(start, start + seconds) for start in at]
    return windows[::2], windows[1::2]


def _carry_out(orders: Sequence[Order], *, seconds: float) -> list[Seen]:
    with ExitStack() as stack:
        clients = []
        for order in orders:
            client = subprocess.Popen(
                [sys.executable, "-m", "metering.lab.bench.neighbours_clients"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            stack.callback(client.kill)
            assert client.stdin is not None
            client.stdin.write(msgspec.json.encode(order))
            client.stdin.close()
            client.stdin = None
            clients.append(client)
        answers = [client.communicate(timeout=seconds + _EXTRA_SECONDS)[0] for client in clients]
    if any(client.returncode for client in clients):
        raise BenchFailedError("a client did not finish; its output is above")
    return [msgspec.json.decode(answer, type=Seen) for answer in answers]


def _within(samples: Sequence[Sample], windows: Sequence[tuple[float, float]]) -> list[Sample]:
    """The samples that were due in the windows, the quickest first."""
    found = [sample for sample in samples if any(begin <= sample.at < end for begin, end in windows)]
    return sorted(found, key=lambda sample: sample.ms)


def _at(samples: Sequence[Sample], share: float) -> float:
    return samples[int(len(samples) * share)].ms if samples else 0.0


def _line(row: Row) -> str:
    aim = "" if row.aim is None else f" (aim: below {row.aim:g})"
    return (
        f"{row.what}: p50 {row.alone_p50_ms:.1f} -> {row.beside_p50_ms:.1f} ms,"
        f" p99 {row.alone_p99_ms:.1f} -> {row.beside_p99_ms:.1f} ms, {row.ratio:.1f} x{aim};"
        f" quiet {counts_of(row.quiet)}; noisy {counts_of(row.noisy)};"
        f" livez {row.livez - row.livez_failed} of {row.livez}, worst {row.livez_worst_ms:.0f} ms; load {row.load}"
    )


def counts_of(statuses: dict[str, int]) -> str:
    """How many answers had each status, as text."""
    return ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items())) or "nothing"

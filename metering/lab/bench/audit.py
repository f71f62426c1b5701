"""`metering bench audit`: events per second that the audit folds and compares, and its memory."""

import os
import subprocess
import sys
from time import perf_counter

import msgspec

from metering.core.clock import utc_now
from metering.lab.bench.machine import Machine, describe_machine, resident_megabytes_of_all
from metering.lab.bench.stage import BenchFailedError, Say, Stage, Stages, stage
from metering.lab.bench.workload import Workload


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One audit of everything posted so far by `metering audit`; the memory is that of all its processes."""

    events: int
    streams: int
    seconds: float
    events_per_second: float
    peak_megabytes: float


class AuditBenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench audit`: audits of growing data, which show that memory does not grow."""

    machine: Machine
    events_per_stream: int
    rows: list[AuditRow]


class _Printed(msgspec.Struct):
    events: int
    streams: int


def bench_audit(
    *,
    seconds: float,
    events_per_stream: int,
    times: int,
    say: Say,
    warm_up_seconds: float = 2.0,
    stages: Stages = stage,
) -> AuditBenchReport:
    """Post for `seconds`, finalize and audit, `times` times."""
    with stages() as running:
        running.start_api()
        running.start_worker()
        rows: list[AuditRow] = []
        for turn in range(times):
            workload = Workload(events_per_request=100, open_streams=20, events_per_stream=events_per_stream)
            running.drive(workload, connections=8, seconds=seconds, seed=turn, warm_up_seconds=warm_up_seconds)
            running.wait_until_nothing_is_due()
            row = run_audit(running)
            rows.append(row)
            say(
                f"{row.events:,} events of {row.streams:,} streams in {row.seconds:.1f} s: "
                f"{row.events_per_second:,.0f} events/s, {row.peak_megabytes:.0f} MB"
            )
        return AuditBenchReport(
            machine=describe_machine(now=utc_now(), postgres=running.postgres_version()),
            events_per_stream=events_per_stream,
            rows=rows,
        )


def run_audit(running: Stage) -> AuditRow:
    began = perf_counter()
    command = [sys.executable, "-m", "metering", "audit", "--json"]
    process = subprocess.Popen(command, env=os.environ | running.environment, stdout=subprocess.PIPE)
    peak = 0.0
    while True:
        try:
            output, _ = process.communicate(timeout=0.1)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, resident_megabytes_of_all(process.pid))
    took = perf_counter() - began
    if process.returncode != 0:
        raise BenchFailedError(f"the audit ended with exit code {process.returncode}: {output.decode()[:500]}")
    printed = msgspec.json.decode(output, type=_Printed)
    return AuditRow(
        events=printed.events,
        streams=printed.streams,
        seconds=took,
        events_per_second=printed.events / took,
        peak_megabytes=peak,
    )

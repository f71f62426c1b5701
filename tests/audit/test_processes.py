"""An audit in several processes finds what one process finds, and leaves no process behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from metering.audit import run
from metering.audit.processes import AuditStoppedError, DoTasks, Processes, elsewhere
from metering.audit.report import AuditReport
from metering.audit.run import audit
from metering.audit.tasks import Kind, Plan, Scope, Task
from metering.db.snapshots import long_read_transaction, share_snapshot
from tests.audit.planting import LATER, Planting
from tests.command_line import CommandLine
from tests.database import is_cluster
from tests.waiting import eventually

ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
FAULTS = (
    "UPDATE journal SET event_count = event_count + 1 WHERE journal_id = (SELECT min(journal_id) FROM journal)",
    "UPDATE charges SET usd_cents = usd_cents + 1 WHERE stream_id = 'completed'",
    "UPDATE streams SET state_reason = 'no reason' WHERE stream_id = 'gone'",
    "DELETE FROM streams WHERE stream_id = 'open'",
)


def several(planting: Planting, *, count: int = 2) -> Processes:
    url = planting.books.database.url
    return Processes(count=count, database_url=url, statement_timeout=timedelta(minutes=1), least_events=1)


def found(planting: Planting, **options: Processes) -> dict[str, object]:
    """What the audit reports."""
    return asdict(audit(engine=planting.books.service.engine, now=LATER, **options))


def test_several_processes_report_what_one_does(planting: Planting, monkeypatch: pytest.MonkeyPatch) -> None:
    right = found(planting, processes=several(planting))
    assert (right["streams"], right["events"], right["differences"]) == (14, 29, [])
    for fault in FAULTS:
        planting.plant(fault)
    alone = found(planting)
    assert len({each["table"] for each in alone["differences"]}) >= 3  # type: ignore[attr-defined]
    monkeypatch.setattr(run, "_EVENTS_PER_FOLD", 7)
    monkeypatch.setattr(run, "_STREAMS_PER_PART", 4)
    assert sorted_by_row(found(planting, processes=several(planting))) == sorted_by_row(alone)


def sorted_by_row(report: dict[str, object]) -> dict[str, object]:
    """A report whose differences do not depend on how the work was cut."""
    return report | {"differences": sorted(map(str, report["differences"]))}  # type: ignore[call-overload]


@pytest.mark.parametrize("events", [1, 2, 3, 5, 28])
def test_no_request_is_lost_or_read_twice_where_the_journal_is_cut(
    planting: Planting, monkeypatch: pytest.MonkeyPatch, events: int
) -> None:
    whole = found(planting)
    monkeypatch.setattr(run, "_EVENTS_PER_FOLD", events)
    monkeypatch.setattr(run, "_STREAMS_PER_PART", 1)
    assert found(planting) == whole


@pytest.mark.parametrize(("events", "wanted"), [(0, 1), (199_999, 1), (200_000, 2), (10**9, 8)])
def test_a_process_is_started_for_enough_events_only(events: int, wanted: int) -> None:
    processes = Processes(count=8, database_url="", statement_timeout=timedelta(minutes=1))
    assert processes.worth_it(events) == wanted


@contextmanager
def two_processes(planting: Planting, folder: Path) -> Iterator[DoTasks]:
    plan = Plan(
        scope=Scope(period=None, ended=ALWAYS, received=ALWAYS),
        folder=folder,
        parts=1,
        folds=(ALWAYS,),
        archives=(),
        journal_from=ALWAYS[0],
        now=LATER,
    )
    with (
        long_read_transaction(planting.books.service.engine) as connection,
        elsewhere(several(planting), count=2, snapshot=share_snapshot(connection), plan=plan) as do,
    ):
        yield do


@pytest.mark.skipif(is_cluster(), reason="Citus has no snapshot of all nodes, for one process as for several")
def test_all_processes_see_the_database_as_the_first_one_does(planting: Planting, tmp_path: Path) -> None:
    with two_processes(planting, tmp_path) as do:
        planting.plant("DELETE FROM journal")
        reports: list[AuditReport] = [report for _, report in do([Task(Kind.FOLD)])]
    assert [each.events for each in reports] == [29]


def test_a_process_that_is_killed_ends_the_audit_with_what_to_do(planting: Planting, tmp_path: Path) -> None:
    with two_processes(planting, tmp_path) as do:
        list(do([Task(Kind.CHECK, 0), Task(Kind.CHECK, 1)]))
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)
        with pytest.raises(AuditStoppedError, match="--processes 1"):
            list(do([Task(Kind.CHECK, 0)]))


BEGIN = """
import sys, time, multiprocessing
from concurrent.futures import ProcessPoolExecutor
from metering.audit.processes import _end_with_the_first
if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_end_with_the_first)
    pool.submit(abs, 1).result()
    print(multiprocessing.active_children()[0].pid, flush=True)
    time.sleep(600)
"""


def test_processes_end_with_the_first_one_even_if_it_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "begin.py"
    script.write_text(BEGIN)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        child = int(first.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        first.kill()
    assert eventually(lambda: not Path(f"/proc/{child}").exists())


def test_the_command_takes_the_number_of_processes(planting: Planting) -> None:
    metering = CommandLine(planting.books.database)
    assert metering.json("audit", "--processes", "1")["streams"] == 14
    refused = metering("audit", "--processes", "0", exits=2)
    assert "--processes" in refused.stderr

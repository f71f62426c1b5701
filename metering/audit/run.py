"""Run the audit: check the invariants, then compare every stored stream with the journal.

Journaled and stored streams are written to scratch files, all records of one stream to files of the same part, and
compared part by part, so that memory stays bounded. Checks, ranges of the journal and parts are tasks, which
several processes share.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, Engine

from metering.archive.queries import list_archives
from metering.archive.read_archive import OpenArchive, open_archives
from metering.audit.processes import DoTasks, Processes, elsewhere, here
from metering.audit.queries.stored import count_streams, received_within
from metering.audit.report import AuditReport
from metering.audit.tasks import CHECKS, Auditor, Kind, Plan, Scope, Task
from metering.core.period import BillingPeriod
from metering.db.snapshots import long_read_transaction, share_snapshot
from metering.events.queries import CLOCK_MARGIN, count_journaled, cut_journal, journal_start

_ALWAYS = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))
_TICK = timedelta(microseconds=1)

# The streams that a process has in memory at once, about 4 kB each.
_STREAMS_PER_PART = 20_000
# Each part is a file of a task, and all are open at once; most systems allow a process 1,024.
_MAX_PARTS = 256
_EVENTS_PER_FOLD = 200_000
_MAX_FOLDS = 32

# Called with the current step, the units of it that are done, and the units in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class _Size:
    events: int
    streams: int


def audit(
    *,
    engine: Engine,
    now: datetime,
    period: BillingPeriod | None = None,
    scratch: Path | None = None,
    processes: Processes | None = None,
    archives: Sequence[Path] = (),
    progress: Progress = lambda *_: None,
) -> AuditReport:
    """Derive everything that is stored, or everything of one period, from the journal, and compare.

    It reads one snapshot and takes no locks. `scratch` is a folder with room for about 2 kB per stream, by default
    the system's temporary folder. `processes` are used where there is enough to compare. With the folders of all
    `archives`, what was moved there is derived and compared as well.

    Raises:
        ArchivesMissingError: the folders are not those of all archives.
        AuditStoppedError: one of several processes ended.
        DamagedArchiveError: a file of an archive is missing or was changed.
    """
    with (
        long_read_transaction(engine) as connection,
        TemporaryDirectory(prefix="metering-audit-", dir=scratch) as folder,
    ):
        opened = open_archives(connection, archives) if archives else ()
        plan, size = _plan(connection, period, Path(folder), now, opened)
        with _hands(connection, plan, size, processes) as do:
            report = _run(do, plan, size, progress)
        if not archives:
            report.archived = sum(each.stream_count for each in list_archives(connection))
    return report


def _plan(
    connection: Connection,
    period: BillingPeriod | None,
    folder: Path,
    now: datetime,
    archives: tuple[OpenArchive, ...],
) -> tuple[Plan, _Size]:
    scope = _scope(connection, period, archives)
    begin, end = scope.received
    size = _Size(
        events=count_journaled(connection, begin=begin, end=end),
        streams=count_streams(connection, begin=begin, end=end),
    )
    moved = sum(each.manifest.stream_count for each in archives)
    folds = min(_MAX_FOLDS, 1 + size.events // _EVENTS_PER_FOLD)
    cuts = cut_journal(connection, begin=begin, end=end, pieces=folds)
    plan = Plan(
        scope=scope,
        folder=folder,
        parts=min(_MAX_PARTS, 1 + (size.streams + moved) // _STREAMS_PER_PART),
        folds=tuple(zip([begin, *(cut + _TICK for cut in cuts)], [*cuts, end], strict=True)),
        archives=archives,
        journal_from=min([journal_start(connection), *(each.manifest.received_from for each in archives)]),
        now=now,
    )
    events = sum(archives[place].manifest.event_count for place in plan.folded_archives)
    return plan, _Size(events=size.events + events, streams=size.streams + moved)


def _scope(connection: Connection, period: BillingPeriod | None, archives: Sequence[OpenArchive]) -> Scope:
    if period is None:
        return Scope(period=None, ended=_ALWAYS, received=_ALWAYS)
    ended = period.in_any_zone
    first, last = received_within(connection, *ended) or ended
    # Streams of the period can be in any archive of what arrived since it began.
    first = min(
        [first, *(each.manifest.received_from for each in archives if each.manifest.received_before > ended[0])]
    )
    last = max(
        [last, *(each.manifest.received_before for each in archives if each.manifest.received_from < ended[1])]
    )
    return Scope(period=period, ended=ended, received=(first - CLOCK_MARGIN, last + CLOCK_MARGIN))


@contextmanager
def _hands(connection: Connection, plan: Plan, size: _Size, processes: Processes | None) -> Iterator[DoTasks]:
    count = 1 if processes is None else processes.worth_it(size.events)
    if processes is None or count == 1:
        yield here(Auditor(connection, plan))
        return
    with elsewhere(processes, count=count, snapshot=share_snapshot(connection), plan=plan) as do:
        yield do


def _run(do: DoTasks, plan: Plan, size: _Size, progress: Progress) -> AuditReport:
    reading = [
        Task(Kind.READ_STORED),
        *(Task(Kind.READ_ARCHIVED, number) for number in range(len(plan.archives))),
        *(Task(Kind.FOLD_ARCHIVE, number) for number in plan.folded_archives),
        *(Task(Kind.FOLD, number) for number in range(len(plan.folds))),
        *(Task(Kind.CHECK, number) for number in range(len(CHECKS) + 1)),
    ]
    comparing = [Task(Kind.COMPARE, part) for part in range(plan.parts)]
    report = AuditReport()
    for tasks in (reading, comparing):
        report.include(_all(do, tasks, size, progress))
    return report


def _all(do: DoTasks, tasks: Sequence[Task], size: _Size, progress: Progress) -> AuditReport:
    """What all tasks found, in the order of the tasks."""
    found = [AuditReport()] * len(tasks)
    checks = events = streams = 0
    for place, each in do(tasks):
        found[place] = each
        match tasks[place].kind:
            case Kind.CHECK:
                checks += 1
                progress("checking invariants", checks, len(CHECKS) + 1)
            case Kind.FOLD | Kind.FOLD_ARCHIVE:
                events += each.events
                progress("folding the journal's events", events, size.events)
            case Kind.COMPARE:
                streams += each.streams
                progress("comparing streams", streams, size.streams)
    report = AuditReport()
    for each in found:
        report.include(each)
    return report

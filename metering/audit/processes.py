"""Runs the tasks of an audit in several processes that share one snapshot of the database."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Protocol

from metering.audit.report import AuditReport
from metering.audit.tasks import Auditor, Plan, Task
from metering.core.collector import freeze_collector
from metering.core.errors import MeteringError
from metering.db.engine import service_engine
from metering.db.snapshots import long_read_transaction

# An audit makes millions of records, and no cycles of them: garbage is searched for rarely.
YOUNG_OBJECTS = 100_000


class AuditStoppedError(MeteringError):
    """A process of the audit ended before its task did."""


class DoTasks(Protocol):
    """Does tasks in any order."""

    def __call__(self, tasks: Sequence[Task]) -> Iterator[tuple[int, AuditReport]]:
        """The place in `tasks` of each, as it is done, and what it found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """How many processes an audit may use, and the database that they connect to.

    A process takes a second to start: each is to have at least `least_events` events to fold.
    """

    count: int
    database_url: str
    statement_timeout: timedelta
    least_events: int = 100_000

    def worth_it(self, events: int) -> int:
        """How many processes so many events are worth."""
        return max(1, min(self.count, events // self.least_events))


def here(auditor: Auditor) -> DoTasks:
    """Do the tasks one after the other in this process."""

    def do(tasks: Sequence[Task]) -> Iterator[tuple[int, AuditReport]]:
        for place, task in enumerate(tasks):
            yield place, auditor.do(task)

    return do


@contextmanager
def elsewhere(processes: Processes, *, count: int, snapshot: str, plan: Plan) -> Iterator[DoTasks]:
    """Do the tasks in `count` processes; `snapshot` is shared by a transaction that does not end meanwhile.

    Raises:
        AuditStoppedError: a process ended, for example because memory ran out.
    """
    terms = _Terms(processes.database_url, processes.statement_timeout, snapshot, plan)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=spawn, initializer=_begin) as pool:

        def do(tasks: Sequence[Task]) -> Iterator[tuple[int, AuditReport]]:
            places = {pool.submit(_do, terms, task): place for place, task in enumerate(tasks)}
            try:
                for done in as_completed(places):
                    yield places[done], done.result()
            except BrokenProcessPool as error:
                raise AuditStoppedError(
                    "a process of the audit ended: give it more memory, or --processes 1"
                ) from error

        try:
            yield do
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True, slots=True)
class _Terms:
    database_url: str
    statement_timeout: timedelta
    snapshot: str
    plan: Plan


def _do(terms: _Terms, task: Task) -> AuditReport:
    return _auditor(terms).do(task)


@cache
def _auditor(terms: _Terms) -> Auditor:
    """The auditor of this process, whose transaction lasts as long as the process."""
    time = terms.statement_timeout
    engine = service_engine(terms.database_url, pool_size=1, statement_timeout=time, idle_timeout=time)
    transaction = long_read_transaction(engine, snapshot=terms.snapshot)
    return Auditor(_for_good.enter_context(transaction), terms.plan)


# Ends with the process: PostgreSQL then ends the transaction.
_for_good = ExitStack()


def _begin() -> None:
    freeze_collector(young_objects=YOUNG_OBJECTS)
    _end_with_the_first()


def _end_with_the_first() -> None:
    """Leave no process behind when the first one is stopped or killed; Ctrl-C reaches all of them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    first = multiprocessing.parent_process()
    assert first is not None

    def wait() -> None:
        first.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="end-with-the-first").start()

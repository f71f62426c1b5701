"""Group commit: a lane commits all requests that wait in it in one transaction, then answers them.

There are no timers: while one commit runs, the next group gathers. A lane owns its connection; no client can
cancel it. Each commit has a deadline. psycopg may never notice a cancel on a connection that has gone silent
(psycopg#1371), so the lane shuts down the socket and discards the connection. A commit that was not confirmed is
reported as failed; sending the events again is harmless, because they are joined.
"""

import asyncio
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

import psycopg
from psycopg import AsyncConnection, AsyncCursor, errors

from metering.customers.store import ADD_CUSTOMERS
from metering.db.engine import PING, UNSAFE_SETTINGS, UnsafeDatabaseError
from metering.events.store import INSERT_JOURNAL
from metering.streams.ingest.fair_queue import FairQueue
from metering.streams.ingest.metrics import (
    INGEST_COMMIT_SECONDS,
    INGEST_COMMITS,
    INGEST_NOT_COMMITTED,
)
from metering.streams.ingest.statements import Statements, statements_of
from metering.streams.ingest.submission import NotCommittedError, StreamKey, Submission
from metering.streams.store.streams import UPSERT
from metering.streams.stream import StreamFacts, join_all

log = logging.getLogger(__name__)

MAX_EVENTS_PER_COMMIT = 50_000
MAX_KNOWN_CUSTOMERS = 100_000
_ATTEMPTS = 3
# While several keys wait, a commit has as many events as take about this long, but not fewer than these.
_SHARED_SECONDS, _LEAST_SHARED = 0.025, 500
# A connection that was idle for a while is asked whether it still works, which takes less than a millisecond.
_IDLE_SECONDS, _PING_SECONDS = 1.0, 2.0
_MOST_REST_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneTerms:
    """How a lane connects and commits."""

    connect: Callable[[], Awaitable[AsyncConnection]]
    commit_timeout: timedelta
    abandon_after: timedelta
    on_ended: Callable[[], None]


class CommitLane:
    """One connection that commits what is in its queue. Use as: `start()`, any number of `put()`, `stop()`."""

    def __init__(self, terms: LaneTerms, *, makes_room_for: "CommitLane | None" = None) -> None:
        self._makes_room_for = makes_room_for
        self._connect = terms.connect
        self._commit_timeout = terms.commit_timeout.total_seconds()
        self._abandon_after = terms.abandon_after
        self._on_ended = terms.on_ended
        self.queue = FairQueue()
        self._wake = asyncio.Event()
        self._connection: AsyncConnection | None = None
        self._known_customers: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.used_at = 0.0
        self._events_per_second = MAX_EVENTS_PER_COMMIT / 1.0
        self.retries = 0
        self.rests = 0

    @property
    def is_alive(self) -> bool:
        """Whether submissions are still committed."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Start committing submissions."""
        self._task = asyncio.create_task(self._run(), name="ingest-writer")

    async def stop(self) -> None:
        """Commit what is queued, then stop."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self._discard_connection()

    def put(self, submission: Submission) -> None:
        """Queue a submission; its `done` is resolved once it is committed, or failed."""
        self.queue.put(submission)
        self._wake.set()

    async def _run(self) -> None:
        while not (self._stopping and not self.queue):
            if not self.queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            group = self.queue.take(self._most_events())
            began = monotonic()
            try:
                await self._commit(group)
                await self._make_room(monotonic() - began)
            except Exception:
                log.exception("ingest writer failed unexpectedly, requests get 503")
                _fail(group, NotCommittedError("the events could not be stored: send them again"))
                await self._discard_connection()

    async def _make_room(self, seconds: float) -> None:
        """Rest as long as a commit took, while the other lane is in use: PostgreSQL works for both."""
        other = self._makes_room_for
        if other is not None and not self._stopping and monotonic() - other.used_at < _IDLE_SECONDS:
            self.rests += 1
            await asyncio.sleep(min(seconds, _MOST_REST_SECONDS))

    async def _commit(self, group: Sequence[Submission]) -> None:
        began = monotonic()
        try:
            await self._write_with_retries(group)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            await self._commit_apart(group, error)
            return
        except UnsafeDatabaseError as error:
            log.error("ingest commit refused", extra={"error": str(error), "requests": len(group)})
            _fail(group, NotCommittedError("the database could lose these events: send them again later"))
            return
        except (psycopg.Error, OSError) as error:
            log.error("ingest commit failed", extra={"error": str(error).strip(), "requests": len(group)})
            await self._discard_connection()
            _fail(group, NotCommittedError("the database did not confirm the commit: send the events again"))
            return
        seconds = monotonic() - began
        INGEST_COMMITS.inc()
        INGEST_COMMIT_SECONDS.observe(seconds)
        self._note_speed(sum(submission.entry.event_count for submission in group), seconds)
        _succeed(group)
        if any(facts.end is not None for submission in group for facts in submission.streams.values()):
            self._on_ended()

    async def _commit_apart(self, group: Sequence[Submission], error: psycopg.Error) -> None:
        """Commit each request separately, because PostgreSQL refused the data of one of them."""
        if len(group) > 1:
            for submission in group:
                await self._commit([submission])
            return
        log.error("a request's data was refused by PostgreSQL", extra={"error": str(error).strip()})
        _fail(group, NotCommittedError(f"the database refused these events: {error}"))

    async def _write_with_retries(self, group: Sequence[Submission]) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._write_before_deadline(group)
                return
            except (errors.DeadlockDetected, errors.SerializationFailure):
                if attempt == _ATTEMPTS:
                    raise
                self.retries += 1
                await asyncio.sleep(random.uniform(0.005, 0.05))

    async def _write_before_deadline(self, group: Sequence[Submission]) -> None:
        connection = self._connection
        if connection is not None and monotonic() - self.used_at > _IDLE_SECONDS:
            try:
                await self._before_deadline(connection.execute(PING), seconds=_PING_SECONDS)
            except (psycopg.Error, OSError):
                await self._discard_connection()
        await self._before_deadline(self._write(group), seconds=self._commit_timeout)
        self.used_at = monotonic()

    async def _before_deadline(self, waiting: Coroutine[Any, Any, Any], *, seconds: float) -> None:
        task = asyncio.create_task(waiting, name="ingest-commit")
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            self._shut_down_socket()
            done, _ = await asyncio.wait({task}, timeout=1)
        if not done:
            # The task still waits on the connection, which nothing else uses from now on.
            task.add_done_callback(lambda abandoned: abandoned.cancelled() or abandoned.exception())
            self._connection = None
            raise psycopg.OperationalError("the connection does not respond and was discarded")
        task.result()

    async def _write(self, group: Sequence[Submission]) -> None:
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._connection = await self._connect()
        statements = self._statements(group)
        new_customers = sorted(statements.customers - self._known_customers)
        async with connection.pipeline(), connection.transaction(), connection.cursor() as cursor:
            await cursor.execute(INSERT_JOURNAL, statements.journal)
            if new_customers:
                await cursor.execute(ADD_CUSTOMERS, (statements.received_at, new_customers))
            for parameters in statements.upserts:
                await cursor.execute(UPSERT, parameters)
                # In a pipeline, nothing is waited for until the end; others may work in between.
                await asyncio.sleep(0)
            await _check_durable(cursor)
        self._remember(new_customers)

    def _statements(self, group: Sequence[Submission]) -> Statements:
        if len(group) == 1 and (prepared := group[0].statements) is not None:
            return prepared
        entries = [submission.entry for submission in group]
        return statements_of(entries, _joined(group), abandon_after=self._abandon_after)

    def _most_events(self) -> int:
        """How many events the next commit may have: fewer while several keys wait, so that each waits less."""
        if self._makes_room_for is not None:
            return 1  # a large request was prepared for a commit of its own
        if self.queue.keys < 2:
            return MAX_EVENTS_PER_COMMIT
        return max(_LEAST_SHARED, min(MAX_EVENTS_PER_COMMIT, round(self._events_per_second * _SHARED_SECONDS)))

    def _note_speed(self, events: int, seconds: float) -> None:
        self._events_per_second += (events / seconds - self._events_per_second) / 8

    def _remember(self, customers: Sequence[str]) -> None:
        # Customers are never removed, so known ones stay valid. The limit is for memory.
        if len(self._known_customers) > MAX_KNOWN_CUSTOMERS:
            self._known_customers.clear()
        self._known_customers.update(customers)

    def _shut_down_socket(self) -> None:
        if self._connection is None or self._connection.closed:
            return
        with socket.socket(fileno=os.dup(self._connection.fileno())) as connection_socket:
            connection_socket.shutdown(socket.SHUT_RDWR)

    async def _discard_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def _check_durable(cursor: AsyncCursor[Any]) -> None:
    """Refuse to commit what could be lost: the settings may have changed since the service was started.

    Raises:
        UnsafeDatabaseError: a setting is off.
    """
    await cursor.execute(UNSAFE_SETTINGS)
    row = await cursor.fetchone()
    if row is not None and row[0]:
        raise UnsafeDatabaseError(f"PostgreSQL runs with {row[0]}=off and can lose commits: turn it on")


def _joined(group: Sequence[Submission]) -> dict[StreamKey, StreamFacts]:
    if len(group) == 1:
        return group[0].streams
    return join_all(facts for submission in group for facts in submission.streams.values())


def _succeed(group: Sequence[Submission]) -> None:
    for submission in group:
        if not submission.done.done():
            submission.done.set_result(None)


def _fail(group: Sequence[Submission], error: NotCommittedError) -> None:
    INGEST_NOT_COMMITTED.inc(len(group))
    for submission in group:
        if not submission.done.done():
            submission.done.set_exception(error)

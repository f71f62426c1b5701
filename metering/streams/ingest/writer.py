"""Group commit: one writer per process commits all waiting requests in one transaction, then answers them.

There are no timers: while one commit runs, the next group gathers. The writer owns its connection; no client can
cancel it. Each commit has a deadline. psycopg may never notice a cancel on a connection that has gone silent
(psycopg#1371), so the writer shuts down the socket and discards the connection. A commit that was not confirmed is
reported as failed; sending the events again is harmless, because they are joined.
"""

import asyncio
import logging
import os
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic

import psycopg
from psycopg import AsyncConnection, errors

from metering.core.errors import MeteringError
from metering.customers.store import ADD_CUSTOMERS
from metering.events.store import COPY_JOURNAL, JournalEntry
from metering.streams.ingest.metrics import (
    INGEST_COMMIT_SECONDS,
    INGEST_COMMITS,
    INGEST_NOT_COMMITTED,
    INGEST_REFUSED,
)
from metering.streams.store.streams import UPSERT, upsert_parameters
from metering.streams.stream import StreamFacts, join_all

log = logging.getLogger(__name__)

StreamKey = tuple[str, str]

MAX_EVENTS_PER_COMMIT = 50_000
MAX_KNOWN_CUSTOMERS = 100_000
_ATTEMPTS = 3


class QueueFullError(MeteringError):
    """The ingest queue of this process is full; the sender has to try again."""


class NotCommittedError(MeteringError):
    """The events were not committed, or the commit was not confirmed; the sender has to send them again."""


@dataclass(slots=True, eq=False)
class Submission:
    """One request that waits for its commit; `done` is resolved once its events are durable."""

    entry: JournalEntry
    streams: dict[StreamKey, StreamFacts]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class IngestWriter:
    """The one writer of an API process. Use as: `start()`, any number of `submit()`, `stop()`."""

    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[AsyncConnection]],
        max_queued_events: int,
        commit_timeout: timedelta,
        abandon_after: timedelta,
        on_ended: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._max_queued_events = max_queued_events
        self._commit_timeout = commit_timeout.total_seconds()
        self._abandon_after = abandon_after
        self._on_ended = on_ended
        self._queue: deque[Submission] = deque()
        self._queued_events = 0
        self._wake = asyncio.Event()
        self._connection: AsyncConnection | None = None
        self._known_customers: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.retries = 0

    @property
    def queued_events(self) -> int:
        """How many events wait for a commit."""
        return self._queued_events

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

    async def submit(self, submission: Submission) -> None:
        """Return once the submission is committed with fsync.

        Raises:
            QueueFullError: the queue is full, or the writer is stopping; nothing was stored.
            NotCommittedError: the transaction failed, or was not confirmed.
        """
        waiting = self._queued_events + submission.entry.event_count
        if self._stopping or (self._queue and waiting > self._max_queued_events):
            INGEST_REFUSED.inc()
            raise QueueFullError(
                f"ingest queue full, {self._queued_events} events wait for a commit: try again shortly"
            )
        self._queue.append(submission)
        self._queued_events = waiting
        self._wake.set()
        # A client that disconnects cancels this future, not the writer.
        await submission.done

    async def _run(self) -> None:
        while not (self._stopping and not self._queue):
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            group = self._take_group()
            try:
                await self._commit(group)
            except Exception:
                log.exception("ingest writer failed unexpectedly, requests get 503")
                _fail(group, NotCommittedError("the events could not be stored: send them again"))
                await self._discard_connection()

    def _take_group(self) -> list[Submission]:
        group: list[Submission] = []
        events = 0
        while self._queue and events < MAX_EVENTS_PER_COMMIT:
            submission = self._queue.popleft()
            events += submission.entry.event_count
            group.append(submission)
        self._queued_events -= events
        return group

    async def _commit(self, group: Sequence[Submission]) -> None:
        began = monotonic()
        try:
            await self._write_with_retries(group)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            await self._commit_apart(group, error)
            return
        except (psycopg.Error, OSError) as error:
            log.error("ingest commit failed", extra={"error": str(error).strip(), "requests": len(group)})
            await self._discard_connection()
            _fail(group, NotCommittedError("the database did not confirm the commit: send the events again"))
            return
        INGEST_COMMITS.inc()
        INGEST_COMMIT_SECONDS.observe(monotonic() - began)
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
        task = asyncio.create_task(self._write(group), name="ingest-commit")
        done, _ = await asyncio.wait({task}, timeout=self._commit_timeout)
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
        streams = _joined(group)
        arrivals = [submission.entry.received_at for submission in group]
        received_at = max(arrivals)
        new_customers = sorted({customer for customer, _ in streams} - self._known_customers)
        async with connection.transaction(), connection.cursor() as cursor:
            async with cursor.copy(COPY_JOURNAL) as copy:
                for submission in group:
                    await copy.write_row(submission.entry.copy_row())
            if new_customers:
                await cursor.execute(ADD_CUSTOMERS, (received_at, new_customers))
            if streams:
                parameters = upsert_parameters(
                    streams.values(),
                    first_received_at=min(arrivals),
                    received_at=received_at,
                    abandon_after=self._abandon_after,
                )
                await cursor.execute(UPSERT, parameters)
        self._remember(new_customers)

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

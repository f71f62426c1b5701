"""The writer of an API process: it bounds what waits, and commits small and large requests side by side."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from psycopg import AsyncConnection

from metering.events.store import JournalEntry
from metering.streams.ingest.lane import CommitLane, LaneTerms
from metering.streams.ingest.metrics import INGEST_REFUSED
from metering.streams.ingest.statements import Statements, statements_of
from metering.streams.ingest.submission import KeyQueueFullError, QueueFullError, StreamKey, Submission
from metering.streams.stream import StreamFacts

# A request with more events is committed apart from smaller ones, which would wait for it.
LARGE_EVENTS = 1_000
# A key may fill this share of the queue; the rest is for the others.
_SHARE_OF_KEY = 0.5


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
        terms = LaneTerms(
            connect=connect, commit_timeout=commit_timeout, abandon_after=abandon_after, on_ended=on_ended
        )
        self._abandon_after = abandon_after
        self._small = CommitLane(terms)
        self._large = CommitLane(terms, makes_room_for=self._small)
        self._lanes = (self._small, self._large)
        self._max_queued_events = max_queued_events
        self._stopping = False

    @property
    def queued_events(self) -> int:
        """How many events wait for a commit."""
        return sum(lane.queue.events for lane in self._lanes)

    @property
    def retries(self) -> int:
        """How many commits were repeated because of other writers."""
        return sum(lane.retries for lane in self._lanes)

    @property
    def rests(self) -> int:
        """How many commits of large requests were followed by a rest, for smaller ones."""
        return sum(lane.rests for lane in self._lanes)

    @property
    def is_alive(self) -> bool:
        """Whether submissions are still committed."""
        return all(lane.is_alive for lane in self._lanes)

    def start(self) -> None:
        """Start committing submissions."""
        for lane in self._lanes:
            lane.start()

    async def stop(self) -> None:
        """Commit what is queued, then stop."""
        self._stopping = True
        for lane in self._lanes:
            await lane.stop()

    def prepare(self, entry: JournalEntry, streams: Mapping[StreamKey, StreamFacts]) -> Statements | None:
        """The statements of a large request, which may be encoded in a thread; None for a smaller one.

        Smaller ones are joined with others first.
        """
        if entry.event_count <= LARGE_EVENTS:
            return None
        statements = statements_of([entry], streams, abandon_after=self._abandon_after)
        return replace(statements, upserts=list(statements.upserts))

    async def submit(self, submission: Submission) -> None:
        """Return once the submission is committed with fsync.

        Raises:
            QueueFullError: the queue is full, or the writer is stopping; nothing was stored.
            KeyQueueFullError: the key has its share of the queue; nothing was stored.
            NotCommittedError: the transaction failed, or was not confirmed.
        """
        self._check_room(submission)
        lane = self._large if submission.entry.event_count > LARGE_EVENTS else self._small
        lane.put(submission)
        # A client that disconnects cancels this future, not the writer.
        await submission.done

    def _check_room(self, submission: Submission) -> None:
        queued, events = self.queued_events, submission.entry.event_count
        if self._stopping or (queued and queued + events > self._max_queued_events):
            INGEST_REFUSED.inc()
            raise QueueFullError(f"ingest queue full, {queued} events wait for a commit: try again shortly")
        key_id = submission.entry.ingest_key_id
        of_key = sum(lane.queue.events_of(key_id) for lane in self._lanes)
        if of_key and of_key + events > self._max_queued_events * _SHARE_OF_KEY:
            raise KeyQueueFullError(f"{of_key} events of this key wait for a commit, its share: try again shortly")

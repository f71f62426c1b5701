"""Ingest over HTTP: what every path that takes usage events has in common.

Posted events go from the gate to the writer without FastAPI, at more than 100,000 events a second. A door says how
a path's requests are read and answered; the rest is the same for all of them.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Protocol

from starlette.responses import Response

from metering.access.keys import Key
from metering.access.scopes import Scope
from metering.api.gate import Limits
from metering.api.incoming import Incoming
from metering.budgets.hold_writer import HoldNotCommittedError, HoldQueueFullError, HoldWriter
from metering.events.events import Inlet
from metering.events.store import JournalEntry, stream_hashes
from metering.events.wire.admission import admit
from metering.events.wire.bodies import pack_body
from metering.events.wire.decode import Decoded
from metering.streams.ingest.body import MAX_BODY_BYTES, BodyTooLargeError, inflate
from metering.streams.ingest.fold import fold_wire
from metering.streams.ingest.metrics import (
    EVENTS_ACCEPTED,
    EVENTS_REJECTED,
    RECORDS_LEFT_OUT,
    STREAMS_AHEAD,
    UNKNOWN_FIELDS,
)
from metering.streams.ingest.statements import Statements
from metering.streams.ingest.submission import Submission
from metering.streams.ingest.turns import Turns
from metering.streams.ingest.writer import IngestWriter
from metering.streams.stream import StreamFacts
from metering.translations.translated import LeftOut

log = logging.getLogger(__name__)

# What is larger, as sent compressed or as decoded, may take more than some milliseconds.
_SMALL_SENT, _SMALL_BODY = 4 * 1024, 32 * 1024
# While other keys post, too, decoding very large bodies pauses twice as long as it takes: it competes for the
# interpreter with everything else.
_PACED_BODY, _PAUSE, _OTHERS_SECONDS = 256 * 1024, 2.0, 1.0
_TELL_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A request that was received whole: what a door reads."""

    body: bytes
    media_type: str
    query: Mapping[str, str]
    key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The events of a request, and their body as the journal keeps it: JSON of the contract.

    Where a door translates, `records` has the place in the request of each event in the body, and `left_out` what
    became no event. `answer_type` is the media type of the answer, where the request chooses it. `stop` are the
    ids of streams whose budget is exhausted.
    """

    decoded: Decoded
    body: bytes
    media_type: str
    records: Sequence[int] | None = None
    left_out: Sequence[LeftOut] = ()
    inlet: Inlet = Inlet.EVENTS
    answer_type: str = "application/json"
    stop: Sequence[str] = ()


# What is to be committed of a request: the arguments of a Submission, which only the event loop can make.
_Read = tuple[JournalEntry, dict[tuple[str, str], StreamFacts], Statements | None]


class Door(Protocol):
    """How the requests of a path are read and answered. `decode` may run in a thread."""

    def media_type(self, content_type: str) -> str:
        """The media type of a request.

        Raises:
            UnsupportedBodyError: the path does not take it.
        """

    def decode(self, posted: Posted) -> Taken:
        """The events of a request.

        Raises:
            MeteringError: the request is refused as a whole; nothing is stored.
        """

    def answer(self, taken: Taken) -> Response:
        """The answer, once all accepted events are durable. There may be none.

        Raises:
            MeteringError: no event was accepted, and the path says so as an error.
        """


class IngestEndpoint:
    """Authenticates, decodes, has the writer commit, and answers only then.

    `doors` says how the requests of each path are read and answered.
    """

    scope = Scope.EVENTS_WRITE

    def __init__(
        self,
        *,
        doors: Mapping[str, Door],
        writer: IngestWriter,
        holds: HoldWriter,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        self.doors = doors
        self._writer = writer
        self._holds = holds
        self._limits = limits
        self._clock = clock
        # One request is decoded per turn of the event loop, so that the writer waits for one decoding at most.
        # Without turns, all waiting requests are decoded first, and PostgreSQL idles meanwhile.
        self._turns = Turns()
        # Large bodies take longer than others may wait: a thread decodes them, one at a time.
        self._large_turns = Turns()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-bodies")
        # When a request had another key than the one before it.
        self._newest_key, self._switched_at = "", float("-inf")
        # Three of each ingest key at most.
        self._told: dict[tuple[str, str], float] = {}

    async def __call__(self, request: Incoming) -> Response:
        """Answer one request.

        Raises:
            MeteringError: it is refused; the gate answers.
            ClientGoneError: the client has left.
        """
        key = await self._limits.key_of_writer(request.header(b"authorization"), needs=self.scope)
        self._limits.keys.enter(key)
        try:
            return await self._answer(request, key)
        finally:
            self._limits.keys.leave(key)

    async def _answer(self, request: Incoming, key: Key) -> Response:
        door = self.doors[request.path]
        media_type = door.media_type(request.header(b"content-type") or "")
        sent = await request.body(most=MAX_BODY_BYTES)
        if sent is None:
            raise BodyTooLargeError
        posted = Posted(body=sent, media_type=media_type, query=request.query, key=key)
        taken, submission = await self._read(door, posted, request.header(b"content-encoding") or "")
        decoded = taken.decoded
        self._limits.keys.count_events(key, decoded.count)
        if submission is not None:
            await self._writer.submit(submission)
        if decoded.rejections:
            EVENTS_REJECTED.inc(len(decoded.rejections))
        if taken.left_out:
            self._report_left_out(key.key_id, taken)
        if submission is not None:
            EVENTS_ACCEPTED.inc(len(decoded.events))
            self._report(key.key_id, decoded, submission)
            if stop := await self._extend_holds(submission):
                taken = replace(taken, stop=stop)
        return door.answer(taken)

    async def _extend_holds(self, submission: Submission) -> list[str]:
        """The ids of the streams that have to end, because their sliding holds cannot follow what they deliver."""
        sliding = self._holds.sliding_customers
        if not sliding:
            return []
        delivering = {
            key: facts.delivered.output_tokens
            for key, facts in submission.streams.items()
            if facts.delivered is not None and facts.end is None and key[0] in sliding
        }
        if not delivering:
            return []
        try:
            return [stream_id for _, stream_id in await self._holds.extend(delivering)]
        except (HoldQueueFullError, HoldNotCommittedError) as error:
            # The events are durable; the next ones of these streams try again.
            details = {"streams": len(delivering), "error": str(error)}
            log.warning("sliding holds were not extended", extra=details)
            return []

    def _report_left_out(self, key_id: str, taken: Taken) -> None:
        """The same for records that became no event: many senders read no answer."""
        RECORDS_LEFT_OUT.labels(key_id, taken.inlet.value).inc(len(taken.left_out))
        first = taken.left_out[0]
        self._tell(
            key_id, "records were left out", inlet=taken.inlet.value, record=first.record, reason=first.detail
        )

    def _report(self, key_id: str, decoded: Decoded, submission: Submission) -> None:
        """Count what looks like a mistake of the sender, and say it in the log, at most once a minute and key."""
        ahead = [facts.clock_ahead_seconds for facts in submission.streams.values() if facts.clock_ahead_seconds]
        if decoded.warnings:
            UNKNOWN_FIELDS.labels(key_id).inc()
            field = decoded.warnings[0]
            self._tell(key_id, "a gateway sends fields that are not known", field=field.field, hint=field.hint)
        if ahead:
            STREAMS_AHEAD.labels(key_id).inc(len(ahead))
            self._tell(key_id, "a gateway's clock is ahead", seconds=max(ahead))

    def _tell(self, key_id: str, says: str, **more: object) -> None:
        now = monotonic()
        if now - self._told.get((key_id, says), float("-inf")) >= _TELL_AGAIN_SECONDS:
            self._told[key_id, says] = now
            log.warning(says, extra={"key": key_id, **more})

    async def _read(self, door: Door, posted: Posted, encoding: str) -> tuple[Taken, Submission | None]:
        key_id = posted.key.key_id
        if key_id != self._newest_key:
            self._newest_key, self._switched_at = key_id, monotonic()
        if encoding and len(posted.body) <= _SMALL_SENT:
            posted = replace(posted, body=inflate(posted.body, encoding=encoding))
            encoding = ""
        if not encoding and len(posted.body) <= _SMALL_SENT and self._turns.lets_pass(len(posted.body)):
            taken, read = self._decode(door, posted, encoding)
        elif len(posted.body) <= _SMALL_BODY and not encoding:
            async with self._turns.of(key_id):
                taken, read = self._decode(door, posted, encoding)
                await asyncio.sleep(0)
        else:
            async with self._large_turns.of(key_id):
                began = monotonic()
                try:
                    taken, read = await asyncio.get_running_loop().run_in_executor(
                        self._thread, self._decode, door, posted, encoding
                    )
                finally:
                    if len(posted.body) > _PACED_BODY and monotonic() - self._switched_at < _OTHERS_SECONDS:
                        await asyncio.sleep(_PAUSE * (monotonic() - began))
        return taken, None if read is None else Submission(*read)

    def _decode(self, door: Door, posted: Posted, encoding: str) -> tuple[Taken, _Read | None]:
        key = posted.key
        if encoding:
            posted = replace(posted, body=inflate(posted.body, encoding=encoding))
        taken = door.decode(posted)
        decoded = admit(taken.decoded, customer_id=key.customer_id, source=key.source)
        if decoded is not taken.decoded:
            taken = replace(taken, decoded=decoded)
        if not decoded.events:
            return taken, None
        received_at = self._clock()
        streams = fold_wire(decoded.events, received_at=received_at)
        entry = JournalEntry(
            ingest_key_id=key.key_id,
            received_at=received_at,
            media_type=taken.media_type,
            event_count=len(decoded.events),
            rejected=[rejection.index for rejection in decoded.rejections] or None,
            body=pack_body(taken.body),
            stream_hashes=stream_hashes(streams),
        )
        return taken, (entry, streams, self._writer.prepare(entry, streams))

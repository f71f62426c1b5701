"""`POST /v1/events` for gateways, and `GET /v1/streams/{customer_id}/{stream_id}/events`, which reads them back.

Posting is plain ASGI around the writer: it carries 100,000 events a second, ahead of FastAPI's routing.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from time import monotonic
from typing import Annotated, Any

import msgspec
from fastapi import Depends
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope
from typing_extensions import TypedDict

from metering.access.keys import Key
from metering.access.scopes import Scope
from metering.api.answers import Time, described, time_text
from metering.api.auth import Caller, needs, require_customer, require_scope
from metering.api.gate import Limits
from metering.api.paging import Limit, NextCursor, cursor_of
from metering.api.parameters import Db, stream_key_before
from metering.api.problems import NoEventAcceptedError, NotFoundError
from metering.api.routes import raises, route_ending_in, v1_router
from metering.core.cursors import NUMBER, TIME, decode_cursor, encode_cursor, parse_number, parse_time, time_part
from metering.events.queries import Arrival
from metering.events.read_stream_events import Position, read_stream_events
from metering.events.store import JournalEntry, stream_hashes
from metering.events.wire.admission import admit
from metering.events.wire.bodies import pack_body
from metering.events.wire.decode import NDJSON, Decoded, decode_json, decode_ndjson
from metering.events.wire.hints import FieldWarning
from metering.events.wire.rejections import Rejection
from metering.streams.ingest.body import inflate, media_type_of, receive_body
from metering.streams.ingest.fold import fold_wire
from metering.streams.ingest.metrics import EVENTS_ACCEPTED, EVENTS_REJECTED, STREAMS_AHEAD, UNKNOWN_FIELDS
from metering.streams.ingest.submission import Submission
from metering.streams.ingest.turns import Turns
from metering.streams.ingest.writer import IngestWriter
from metering.streams.stream import StreamFacts

log = logging.getLogger(__name__)

# What is larger, as sent compressed or as decoded, may take more than some milliseconds.
_SMALL_SENT, _SMALL_BODY = 4 * 1024, 32 * 1024
# While other keys post, too, decoding very large bodies pauses twice as long as it takes: it competes for the
# interpreter with everything else.
_PACED_BODY, _PAUSE, _OTHERS_SECONDS = 256 * 1024, 2.0, 1.0
_TELL_AGAIN_SECONDS = 60.0
_encode = msgspec.json.Encoder().encode

_EVENTS = "/events"

stream_events_router = v1_router("events", route_class=route_ending_in(_EVENTS))


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer once the accepted events are durable. `warnings` tell of fields that are not known."""

    accepted: int
    rejected: list[Rejection]
    warnings: list[FieldWarning] = []


class IngestEndpoint:
    """Authenticates, decodes, has the writer commit, and answers only then. An ASGI application."""

    scope = Scope.EVENTS_WRITE

    def __init__(
        self,
        *,
        writer: IngestWriter,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        self._writer = writer
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
        # Two of each ingest key at most.
        self._told: dict[tuple[str, str], float] = {}

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            MeteringError: it is refused; the gate answers.
        """
        request = Request(scope, receive)
        self._limits.watch.require_durable()
        key = await self._limits.authenticator.key_async(request.headers.get("authorization"))
        require_scope(key, self.scope)
        self._limits.keys.enter(key)
        try:
            response = await self._answer(request, key)
        except ClientDisconnect:
            return
        finally:
            self._limits.keys.leave(key)
        await response(scope, receive, send)

    async def _answer(self, request: Request, key: Key) -> Response:
        headers = request.headers
        media_type = media_type_of(headers.get("content-type", ""))
        sent = await receive_body(request.stream(), declared=headers.get("content-length"))
        decoded, submission = await self._read(key, media_type, headers.get("content-encoding", ""), sent)
        self._limits.keys.count_events(key, decoded.count)
        await self._writer.submit(submission)
        EVENTS_ACCEPTED.inc(len(decoded.events))
        EVENTS_REJECTED.inc(len(decoded.rejections))
        self._report(key.key_id, decoded, submission)
        answer = Accepted(len(decoded.events), list(decoded.rejections), list(decoded.warnings))
        return Response(_encode(answer), media_type="application/json")

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

    async def _read(self, key: Key, media_type: str, encoding: str, sent: bytes) -> tuple[Decoded, Submission]:
        if key.key_id != self._newest_key:
            self._newest_key, self._switched_at = key.key_id, monotonic()
        body = sent
        if encoding and len(sent) <= _SMALL_SENT:
            body = inflate(sent, encoding=encoding)
            encoding = ""
        if len(body) <= _SMALL_BODY and not encoding:
            async with self._turns.of(key.key_id):
                decoded, entry, streams = self._decode(key, media_type, encoding, body)
                await asyncio.sleep(0)
        else:
            async with self._large_turns.of(key.key_id):
                began = monotonic()
                try:
                    decoded, entry, streams = await asyncio.get_running_loop().run_in_executor(
                        self._thread, self._decode, key, media_type, encoding, body
                    )
                finally:
                    if len(body) > _PACED_BODY and monotonic() - self._switched_at < _OTHERS_SECONDS:
                        await asyncio.sleep(_PAUSE * (monotonic() - began))
        return decoded, Submission(entry, streams)

    def _decode(
        self, key: Key, media_type: str, encoding: str, sent: bytes
    ) -> tuple[Decoded, JournalEntry, dict[tuple[str, str], StreamFacts]]:
        body = inflate(sent, encoding=encoding)
        decoded = decode_ndjson(body) if media_type == NDJSON else decode_json(body)
        decoded = admit(decoded, customer_id=key.customer_id, source=key.source)
        if not decoded.events:
            EVENTS_REJECTED.inc(len(decoded.rejections))
            raise NoEventAcceptedError(decoded.rejections)
        received_at = self._clock()
        streams = fold_wire(decoded.events, received_at=received_at)
        entry = JournalEntry(
            ingest_key_id=key.key_id,
            received_at=received_at,
            media_type=media_type or "application/json",
            event_count=len(decoded.events),
            rejected=[rejection.index for rejection in decoded.rejections] or None,
            body=pack_body(body),
            stream_hashes=stream_hashes(streams),
        )
        return decoded, entry, streams


class StreamEvent(TypedDict):
    """An accepted event, as the journal holds it."""

    received_at: Annotated[Time, described("When the service received it.")]
    ingest_key_id: Annotated[str, described("The key that posted it.", example="k1")]
    event: Annotated[dict[str, Any], described("The event exactly as it was sent, unknown fields included.")]


class StreamEventsPage(TypedDict):
    """A page of a stream's events. It may be empty and still have a `next_cursor`."""

    data: Annotated[list[StreamEvent], described("The events of this page.")]
    next_cursor: NextCursor
    journal_from: Annotated[Time, described("Events that were received before this time are no longer stored.")]
    complete: Annotated[bool, described("False if retention has removed the month in which the stream began.")]


@stream_events_router.get(
    "/streams/{customer_id}/{stream_id:id}/events", operation_id="listStreamEvents", summary="List stream events"
)
@needs(Scope.STREAMS_READ)
@raises(NotFoundError)
def read_events(
    stream: Annotated[tuple[str, str], Depends(stream_key_before(_EVENTS))],
    key: Caller,
    connection: Db,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TIME, NUMBER, NUMBER)] = None,
) -> StreamEventsPage:
    """A stream's accepted events as they were sent, duplicates included, in the order in which they arrived.

    One call reads a bounded part of the journal: a page may be empty and still have a `next_cursor`.
    """
    customer_id, stream_id = stream
    require_customer(key, customer_id)
    page = read_stream_events(
        connection, customer_id=customer_id, stream_id=stream_id, begin=_position(cursor), limit=limit
    )
    if page is None:
        raise NotFoundError(f"customer {customer_id!r} has no stream {stream_id!r}")
    data: list[Any] = [
        {
            "received_at": time_text(event.position.arrival.received_at),
            "ingest_key_id": event.ingest_key_id,
            "event": msgspec.Raw(event.event.strip()),
        }
        for event in page.events
    ]
    return {
        "data": data,
        "next_cursor": _cursor(page.next_position),
        "journal_from": time_text(page.journal_from),
        "complete": page.complete,
    }


def _cursor(position: Position | None) -> str | None:
    if position is None:
        return None
    arrival = position.arrival
    return encode_cursor([time_part(arrival.received_at), str(arrival.journal_id), str(position.index)])


def _position(cursor: str | None) -> Position | None:
    parts = decode_cursor(cursor, length=3)
    if parts is None:
        return None
    return Position(Arrival(parse_time(parts[0]), parse_number(parts[1])), parse_number(parts[2]))

"""`POST /v1/events` for gateways; `GET /v1/streams/{customer_id}/{stream_id}/events` reads the events back."""

from typing import Annotated, Any

import msgspec
from fastapi import Depends
from starlette.responses import Response
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import Time, described, time_text
from metering.api.auth import Caller, needs, require_customer
from metering.api.ingest import Posted, Taken
from metering.api.paging import Limit, NextCursor, cursor_of
from metering.api.parameters import Db, stream_key_before
from metering.api.problems import NoEventAcceptedError, NotFoundError
from metering.api.routes import raises, route_ending_in, v1_router
from metering.core.cursors import NUMBER, TIME, decode_cursor, encode_cursor, parse_number, parse_time, time_part
from metering.events.queries import Arrival
from metering.events.read_stream_events import Position, read_stream_events
from metering.events.wire.decode import NDJSON, decode_json, decode_ndjson
from metering.events.wire.hints import FieldWarning
from metering.events.wire.rejections import Rejection
from metering.streams.ingest.body import media_type_of
from metering.streams.store.archived import StreamArchivedError, check_not_archived

_encode = msgspec.json.Encoder().encode

_EVENTS = "/events"

stream_events_router = v1_router("events", route_class=route_ending_in(_EVENTS))


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer once the accepted events are durable.

    `warnings` names unknown fields. The streams in `stop` have to end: their budget is exhausted.
    """

    accepted: int
    rejected: list[Rejection]
    warnings: list[FieldWarning] = []
    stop: list[str] = []


class EventsDoor:
    """`POST /v1/events`: events of the contract, one or many."""

    def media_type(self, content_type: str) -> str:
        return media_type_of(content_type)

    def decode(self, posted: Posted) -> Taken:
        body = posted.body
        decoded = decode_ndjson(body) if posted.media_type == NDJSON else decode_json(body)
        return Taken(decoded=decoded, body=body, media_type=posted.media_type or "application/json")

    def answer(self, taken: Taken) -> Response:
        decoded = taken.decoded
        if not decoded.events:
            raise NoEventAcceptedError(decoded.rejections)
        answer = Accepted(len(decoded.events), list(decoded.rejections), list(decoded.warnings), list(taken.stop))
        return Response(_encode(answer), media_type="application/json")


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
    complete: Annotated[
        bool,
        described("False if the month in which the stream began was removed by retention, or is in an archive."),
    ]


@stream_events_router.get(
    "/streams/{customer_id}/{stream_id:id}/events", operation_id="listStreamEvents", summary="List stream events"
)
@needs(Scope.STREAMS_READ)
@raises(NotFoundError, StreamArchivedError)
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
        check_not_archived(connection, customer_id=customer_id, stream_id=stream_id)
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

"""`GET /v1/streams/{customer_id}/{stream_id}/events`: what the journal holds of a stream."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.responses import Response

from metering.api.auth import Reader, require_customer
from metering.api.errors import NotFoundError
from metering.api.paging import Cursor, Limit
from metering.api.reading import Db
from metering.api.shapes import time_text
from metering.api.stream_paths import route_ending_in, stream_key_before
from metering.core.cursors import decode_cursor, encode_cursor, moment_in, number_in
from metering.events.queries import Arrival
from metering.events.read_stream_events import Position, read_stream_events

_encode = msgspec.json.Encoder().encode


_EVENTS = "/events"

router = APIRouter(prefix="/v1", tags=["reading"], route_class=route_ending_in(_EVENTS))


@router.get("/streams/{customer_id}/{stream_id:path}/events")
def read_events(
    stream: Annotated[tuple[str, str], Depends(stream_key_before(_EVENTS))],
    key: Reader,
    connection: Db,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """A stream's accepted events as they were sent, duplicates included, in the order in which they arrived.

    A page may be empty and still have a `next_cursor`: one call looks through a bounded part of the journal.
    `complete` is false when the journal's retention has taken the time in which the stream began.
    """
    customer_id, stream_id = stream
    require_customer(key, customer_id)
    page = read_stream_events(
        connection, customer_id=customer_id, stream_id=stream_id, begin=_position(cursor), limit=limit
    )
    if page is None:
        raise NotFoundError(f"customer {customer_id!r} has no stream {stream_id!r}")
    answer: dict[str, Any] = {
        "data": [
            {
                "received_at": time_text(event.position.arrival.received_at),
                "ingest_key_id": event.ingest_key_id,
                "event": msgspec.Raw(event.event.strip()),
            }
            for event in page.events
        ],
        "next_cursor": _cursor(page.next_position),
        "journal_from": time_text(page.journal_from),
        "complete": page.complete,
    }
    return Response(_encode(answer), media_type="application/json")


def _cursor(position: Position | None) -> str | None:
    if position is None:
        return None
    arrival = position.arrival
    return encode_cursor([arrival.received_at.isoformat(), str(arrival.journal_id), str(position.index)])


def _position(cursor: str | None) -> Position | None:
    parts = decode_cursor(cursor, length=3)
    if parts is None:
        return None
    return Position(Arrival(moment_in(parts[0]), number_in(parts[1])), number_in(parts[2]))

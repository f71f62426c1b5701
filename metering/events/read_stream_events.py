"""Read a stream's events from the journal, as they were sent and in order of arrival."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from metering.events.queries import (
    MAX_SCANNED,
    Arrival,
    JournaledRequest,
    first_arrival,
    journal_start,
    scan_journal,
)
from metering.events.store import stream_hash
from metering.events.wire.replay import belongs_to_stream, events_as_sent


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """The position of an event: the arrival of its request, and its index in the request."""

    arrival: Arrival
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournaledEvent:
    """One accepted event; `event` is its JSON as it was sent, with unknown fields."""

    position: Position
    ingest_key_id: str
    event: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsPage:
    """A page of a stream's events, including duplicates.

    A page with a `next_position` can be empty: each call scans a limited part of the journal. `complete` is False
    if the first events of the stream are past the journal's retention.
    """

    events: Sequence[JournaledEvent]
    next_position: Position | None
    journal_from: datetime
    complete: bool


def read_stream_events(
    connection: Connection,
    *,
    customer_id: str,
    stream_id: str,
    begin: Position | None,
    limit: int,
    max_scanned: int = MAX_SCANNED,
) -> EventsPage | None:
    """Up to `limit` events from `begin` on; None if the stream has no events."""
    first = first_arrival(connection, customer_id=customer_id, stream_id=stream_id)
    if first is None:
        return None
    begin = begin or Position(first, 0)
    scan = scan_journal(
        connection,
        stream_hash=stream_hash(customer_id, stream_id),
        begin=begin.arrival,
        max_scanned=max_scanned,
    )
    events: list[JournaledEvent] = []
    next_position = Position(scan.next_begin, 0) if scan.next_begin else None
    for event in _events(scan.requests, customer_id, stream_id):
        if event.position < begin:
            continue
        if len(events) == limit:
            next_position = event.position
            break
        events.append(event)
    journal_from = journal_start(connection)
    return EventsPage(
        events=events,
        next_position=next_position,
        journal_from=journal_from,
        complete=journal_from <= first.received_at,
    )


def _events(requests: Iterator[JournaledRequest], customer_id: str, stream_id: str) -> Iterator[JournaledEvent]:
    for request in requests:
        sent = events_as_sent(body=request.body(), media_type=request.media_type, rejected=request.rejected)
        for index, event in sent:
            if belongs_to_stream(event, customer_id=customer_id, stream_id=stream_id):
                yield JournaledEvent(
                    position=Position(request.arrival, index),
                    ingest_key_id=request.ingest_key_id,
                    event=event,
                )

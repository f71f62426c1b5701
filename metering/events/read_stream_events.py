"""Read a stream's events back from the journal, as they were sent and in the order in which they arrived."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from metering.events.queries import (
    MAX_SCANNED,
    Arrival,
    JournaledRequest,
    first_arrival,
    journal_begins,
    scan_journal,
)
from metering.events.store import stream_hash
from metering.events.wire.replay import events_as_sent, is_of_stream


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """An event's place: its request's arrival, and its index in the request."""

    arrival: Arrival
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournaledEvent:
    """One event that counted; `event` is its JSON, unknown fields and all."""

    position: Position
    ingest_key_id: str
    event: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsPage:
    """A page of a stream's events, duplicates included.

    It may be empty while `next_position` is not None: a call looks through a bounded part of the journal.
    `complete` is False when retention has taken the stream's beginning.
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
    """Up to `limit` events from `begin` on; None when no event of the stream ever came."""
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
    journal_from = journal_begins(connection)
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
            if is_of_stream(event, customer_id=customer_id, stream_id=stream_id):
                yield JournaledEvent(
                    position=Position(request.arrival, index),
                    ingest_key_id=request.ingest_key_id,
                    event=event,
                )

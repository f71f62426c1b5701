"""Read the journal: requests in order of arrival."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from metering.events.wire.bodies import unpack_body

# Rows that one query scans. They are narrow (bodies are stored out of line), so this takes well under a second.
MAX_SCANNED = 100_000

# Earlier releases stored a stream's first receipt too late by as much as clocks of API processes differ.
CLOCK_MARGIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """A position in the order of arrival."""

    received_at: datetime
    journal_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournaledRequest:
    """One request in the journal: `event_count` events were accepted, `rejected` has the indexes of the others.

    `stream_hashes` is None in rows older than this column. `packed_body` is the stored form of the body.
    """

    arrival: Arrival
    ingest_key_id: str
    media_type: str
    event_count: int
    rejected: Sequence[int]
    stream_hashes: Sequence[int] | None
    packed_body: bytes

    def body(self) -> bytes:
        """The body as it was sent, inflated.

        Raises:
            zstandard.ZstdError: the stored body is corrupt.
        """
        return unpack_body(self.packed_body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The requests found, in order, read lazily. The next scan starts at `next_begin`; None at the end."""

    requests: Iterator[JournaledRequest]
    next_begin: Arrival | None


_FIRST = text("SELECT first_received_at FROM streams WHERE customer_id = :customer_id AND stream_id = :stream_id")
_SCAN_END = text(
    """
    SELECT received_at, journal_id FROM journal WHERE (received_at, journal_id) >= (:received_at, :journal_id)
    ORDER BY received_at, journal_id OFFSET :max_scanned LIMIT 1
    """
)
_COLUMNS = "received_at, journal_id, ingest_key_id, media_type, event_count, rejected, stream_hashes, body"
_REQUESTS = text(
    f"""
    SELECT {_COLUMNS} FROM journal
    WHERE (received_at, journal_id) >= (:received_at, :journal_id)
      AND (CAST(:end_at AS timestamptz) IS NULL OR (received_at, journal_id) < (:end_at, :end_id))
      AND (stream_hashes IS NULL OR stream_hashes @> ARRAY[CAST(:stream_hash AS integer)])
    ORDER BY received_at, journal_id
    """
)
_RECEIVED_WITHIN = text(
    f"SELECT {_COLUMNS} FROM journal WHERE received_at >= :begin AND received_at <= :end"
).execution_options(yield_per=500)
_HAS_REQUEST = text("SELECT EXISTS (SELECT 1 FROM journal WHERE received_at = :received_at)")
_COUNT_EVENTS = text(
    """
    SELECT coalesce(sum(event_count), 0)::bigint FROM journal
    WHERE received_at >= :begin AND received_at <= :end
    """
)
_CUTS = text(
    """
    SELECT percentile_disc(CAST(:shares AS double precision[])) WITHIN GROUP (ORDER BY received_at) FROM journal
    WHERE received_at >= :begin AND received_at <= :end
    """
)
_JOURNAL_START = text(
    """
    SELECT min(to_timestamp(right(c.relname, 7), 'YYYY_MM'))
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'journal'::regclass
    """
)


def first_arrival(connection: Connection, *, customer_id: str, stream_id: str) -> Arrival | None:
    """The earliest position that a stream's events can have in the journal; None if it has no events."""
    row = connection.execute(_FIRST, {"customer_id": customer_id, "stream_id": stream_id}).first()
    return Arrival(row.first_received_at - CLOCK_MARGIN, 0) if row else None


def scan_journal(
    connection: Connection, *, stream_hash: int, begin: Arrival, max_scanned: int = MAX_SCANNED
) -> Scan:
    """The requests, among the next `max_scanned`, that may contain events of streams with this hash."""
    start = {"received_at": begin.received_at, "journal_id": begin.journal_id}
    end = connection.execute(_SCAN_END, {**start, "max_scanned": max_scanned}).first()
    rows = connection.execution_options(yield_per=20).execute(
        _REQUESTS,
        {
            **start,
            "end_at": end.received_at if end else None,
            "end_id": end.journal_id if end else None,
            "stream_hash": stream_hash,
        },
    )
    return Scan(requests=map(_request, rows), next_begin=Arrival(end.received_at, end.journal_id) if end else None)


def count_journaled(connection: Connection, *, begin: datetime, end: datetime) -> int:
    """How many accepted events arrived from `begin` until `end`, both included."""
    count: int = connection.execute(_COUNT_EVENTS, {"begin": begin, "end": end}).scalar_one()
    return count


def cut_journal(connection: Connection, *, begin: datetime, end: datetime, pieces: int) -> list[datetime]:
    """Times that cut the requests which arrived from `begin` until `end` (both included) into even pieces.

    Each is the last arrival of its piece. There are fewer where requests arrived at the same time.
    """
    if pieces == 1:
        return []
    shares = [number / pieces for number in range(1, pieces)]
    cuts = connection.execute(_CUTS, {"begin": begin, "end": end, "shares": shares}).scalar_one()
    return sorted(set(cuts or ()))


def has_request_at(connection: Connection, received_at: datetime) -> bool:
    """Whether a request arrived at exactly this time."""
    found: bool = connection.execute(_HAS_REQUEST, {"received_at": received_at}).scalar_one()
    return found


def iterate_journal(connection: Connection, *, begin: datetime, end: datetime) -> Iterator[JournaledRequest]:
    """The requests that arrived from `begin` until `end` (both included), unordered, read lazily."""
    return map(_request, connection.execute(_RECEIVED_WITHIN, {"begin": begin, "end": end}))


def journal_start(connection: Connection) -> datetime:
    """When the oldest partition starts: requests from before are not in the journal."""
    start: datetime = connection.execute(_JOURNAL_START).scalar_one()
    return start


def _request(row: Any) -> JournaledRequest:
    return JournaledRequest(
        arrival=Arrival(row.received_at, row.journal_id),
        ingest_key_id=row.ingest_key_id,
        media_type=row.media_type,
        event_count=row.event_count,
        rejected=row.rejected or (),
        stream_hashes=row.stream_hashes,
        packed_body=row.body,
    )

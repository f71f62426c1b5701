"""Write the journal: each accepted request's body, stored once. All streams can be derived from it again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from zlib import crc32

# For any number of requests. COPY takes as long, and cannot be in a pipeline.
INSERT_JOURNAL = """
INSERT INTO journal (ingest_key_id, received_at, media_type, event_count, rejected, body, stream_hashes)
SELECT key_id, received_at, CAST(media_type AS events_media_type), event_count, CAST(rejected AS integer[]), body,
       CAST(hashes AS integer[])
FROM unnest(%b::text[], %b::timestamptz[], %b::text[], %b::integer[], %b::text[], %b::bytea[], %b::text[])
    AS entries (key_id, received_at, media_type, event_count, rejected, body, hashes)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One accepted request.

    `body` is packed (`wire/bodies.py`), `rejected` has the indexes of rejected events, `stream_hashes` the hash of
    each stream in the request, by which the journal is searched.
    """

    ingest_key_id: str
    received_at: datetime
    media_type: str
    event_count: int
    rejected: list[int] | None
    body: bytes
    stream_hashes: Sequence[int]

    def row(self) -> tuple[object, ...]:
        """Its columns, in the order of INSERT_JOURNAL."""
        return (
            self.ingest_key_id,
            self.received_at,
            self.media_type,
            self.event_count,
            None if self.rejected is None else _array(self.rejected),
            self.body,
            _array(self.stream_hashes),
        )


def journal_columns(entries: Iterable[JournalEntry]) -> list[list[object]]:
    """The parameters of INSERT_JOURNAL."""
    return [list(column) for column in zip(*(entry.row() for entry in entries), strict=True)]


def _array(numbers: Sequence[int]) -> str:
    """An array as PostgreSQL reads it. psycopg takes fifteen times as long for a list."""
    return f"{{{','.join(map(str, numbers))}}}"


def stream_hash(customer_id: str, stream_id: str) -> int:
    """A signed 32-bit hash for finding a stream's requests in the journal. Streams can share a hash."""
    unsigned = crc32(f"{customer_id}\0{stream_id}".encode())
    return unsigned - (1 << 32) if unsigned >= 1 << 31 else unsigned


def stream_hashes(streams: Iterable[tuple[str, str]]) -> list[int]:
    """The hash of each (customer_id, stream_id)."""
    return [stream_hash(customer_id, stream_id) for customer_id, stream_id in streams]

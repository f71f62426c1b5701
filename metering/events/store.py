"""The journal: each request's body, once, as it came; everything else can be folded from it again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from zlib import crc32

COPY_JOURNAL = """
COPY journal (ingest_key_id, received_at, media_type, event_count, rejected, body, stream_hashes)
FROM STDIN
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One accepted request: its packed `body` (`records.bodies`), `rejected` the events that do not count.

    `stream_hashes` are of the streams that its events are of, so that it can be found again by stream.
    """

    ingest_key_id: str
    received_at: datetime
    media_type: str
    event_count: int
    rejected: list[int] | None
    body: bytes
    stream_hashes: Sequence[int]

    def copy_row(self) -> tuple[object, ...]:
        """The row that COPY_JOURNAL takes."""
        return (
            self.ingest_key_id,
            self.received_at,
            self.media_type,
            self.event_count,
            self.rejected,
            self.body,
            list(self.stream_hashes),
        )


def stream_hash(customer_id: str, stream_id: str) -> int:
    """A signed 32-bit hash by which the journal finds a stream's requests; others may share it."""
    unsigned = crc32(f"{customer_id}\0{stream_id}".encode())
    return unsigned - (1 << 32) if unsigned >= 1 << 31 else unsigned


def stream_hashes(streams: Iterable[tuple[str, str]]) -> list[int]:
    """The hash of each (customer_id, stream_id)."""
    return [stream_hash(customer_id, stream_id) for customer_id, stream_id in streams]

"""The journal: each request's body, once, as it came; everything else can be folded from it again."""

from dataclasses import dataclass
from datetime import datetime

import zstandard

COPY_JOURNAL = """
COPY journal (ingest_key_id, received_at, media_type, event_count, rejected, body) FROM STDIN
"""

# Level 1 packs event batches nearly as well as the higher levels at a fraction of their time.
_compressor = zstandard.ZstdCompressor(level=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One accepted request: `body` is zstd-compressed, `rejected` the indexes of events that do not count."""

    ingest_key_id: str
    received_at: datetime
    media_type: str
    event_count: int
    rejected: list[int] | None
    body: bytes

    def copy_row(self) -> tuple[object, ...]:
        """The row that COPY_JOURNAL takes."""
        return (
            self.ingest_key_id,
            self.received_at,
            self.media_type,
            self.event_count,
            self.rejected,
            self.body,
        )


def compress(body: bytes) -> bytes:
    """A body as the journal keeps it."""
    return _compressor.compress(body)

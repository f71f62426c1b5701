"""Rows of the journal."""

from collections.abc import Sequence
from datetime import datetime

from metering.events.store import JournalEntry
from metering.events.wire.bodies import pack_body


def journal_entry(
    *, received_at: datetime, key_id: str = "k", event_count: int = 1, stream_hashes: Sequence[int] = ()
) -> JournalEntry:
    """A row of the journal with an empty body."""
    return JournalEntry(
        ingest_key_id=key_id,
        received_at=received_at,
        media_type="application/json",
        event_count=event_count,
        rejected=None,
        body=pack_body(b"[]"),
        stream_hashes=stream_hashes,
    )

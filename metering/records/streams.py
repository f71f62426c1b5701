"""A row of `streams` as a record."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from metering.domain.settlement import State
from metering.domain.stream import Delivered, StreamFacts, Winner
from metering.records.documents import end_from_document, start_from_document


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStream:
    """A stream as stored: its joined facts and where the finalizer got with it.

    `revision` is None before anything is booked, 0 after the charge, n after the n-th adjustment.
    """

    facts: StreamFacts
    last_received_at: datetime
    state: State
    state_reason: str | None
    revision: int | None


STREAM_COLUMNS = """
    s.customer_id, s.stream_id, s.started_at, s.start_fingerprint, s.start_data::text AS start_data,
    s.start_conflicting, s.delivered_seq, s.delivered_output_tokens, s.delivered_reasoning_tokens, s.last_event_at,
    s.ended_at, s.end_fingerprint, s.end_data::text AS end_data, s.end_conflicting, s.last_received_at, s.state,
    s.state_reason, s.revision"""


def stored_stream(row: Any) -> StoredStream:
    """A row of STREAM_COLUMNS as a record."""
    return StoredStream(
        facts=_facts_of_row(row),
        last_received_at=row.last_received_at,
        state=State(row.state),
        state_reason=row.state_reason,
        revision=row.revision,
    )


def _facts_of_row(row: Any) -> StreamFacts:
    key = {"customer_id": row.customer_id, "stream_id": row.stream_id}
    start = delivered = end = None
    if row.start_data is not None:
        event = start_from_document(row.start_data, time=row.started_at, **key)
        start = Winner(event, row.start_fingerprint, row.start_conflicting)
    if row.delivered_seq is not None:
        delivered = Delivered(row.delivered_seq, row.delivered_output_tokens, row.delivered_reasoning_tokens)
    if row.end_data is not None:
        ending = end_from_document(row.end_data, time=row.ended_at, **key)
        end = Winner(ending, row.end_fingerprint, row.end_conflicting)
    return StreamFacts(last_event_at=row.last_event_at, start=start, delivered=delivered, end=end, **key)

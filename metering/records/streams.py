"""A row of `streams` as a record."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from metering.domain.settlement import State
from metering.domain.stream import StreamFacts


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


def _winner(name: str, time: str) -> str:
    """A `Winner` as JSON: what the event says, completed by its key and its time."""
    return f"""CASE WHEN s.{time} IS NOT NULL THEN json_build_object(
        'event', s.{name}_data || jsonb_build_object(
            'customer_id', s.customer_id, 'stream_id', s.stream_id, 'time', s.{time}),
        'fingerprint', s.{name}_fingerprint, 'conflicting', s.{name}_conflicting) END"""


# The facts come as one JSON document: msgspec makes the records of it several times as fast as Python would.
STREAM_COLUMNS = f"""
    json_build_object(
        'customer_id', s.customer_id, 'stream_id', s.stream_id, 'last_event_at', s.last_event_at,
        'start', {_winner("start", "started_at")},
        'delivered', CASE WHEN s.delivered_seq IS NOT NULL THEN json_build_object(
            'seq', s.delivered_seq, 'output_tokens', s.delivered_output_tokens,
            'reasoning_output_tokens', s.delivered_reasoning_tokens) END,
        'end', {_winner("end", "ended_at")}
    )::text AS facts, s.last_received_at, s.state, s.state_reason, s.revision"""

_decode_facts = msgspec.json.Decoder(StreamFacts).decode


def stored_stream(row: Any) -> StoredStream:
    """A row of STREAM_COLUMNS as a record."""
    return StoredStream(
        facts=_decode_facts(row.facts),
        last_received_at=row.last_received_at,
        state=State(row.state),
        state_reason=row.state_reason,
        revision=row.revision,
    )

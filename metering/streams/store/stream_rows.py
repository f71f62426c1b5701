"""A row of `streams` as a record."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from metering.streams.settlement import State
from metering.streams.stream import StreamFacts


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


def _members(**members: str) -> str:
    """SQL for the inside of a JSON object, as text. json_build_object would parse every member once more."""
    return " || ',".join(f'"{name}":\' || {value}' for name, value in members.items())


def _json(**members: str) -> str:
    return f"'{{{_members(**members)} || '}}'"


_KEY = {"customer_id": "to_json(s.customer_id)", "stream_id": "to_json(s.stream_id)"}


def _winner(name: str, time: str) -> str:
    """A `Winner` as JSON: its event is the key and the time, and then what is stored of it but for the brace."""
    event = f"'{{{_members(**_KEY, time=f'to_json(s.{time})')} || ',' || substr(s.{name}_data::text, 2)"
    winner = _json(event=event, fingerprint=f"s.{name}_fingerprint", conflicting=f"s.{name}_conflicting")
    return f"CASE WHEN s.{time} IS NULL THEN 'null' ELSE {winner} END"


_DELIVERED = _json(
    seq="s.delivered_seq",
    output_tokens="s.delivered_output_tokens",
    reasoning_output_tokens="COALESCE(s.delivered_reasoning_tokens::text, 'null')",
)
FACTS = _json(
    **_KEY,
    last_event_at="to_json(s.last_event_at)",
    start=_winner("start", "started_at"),
    delivered=f"CASE WHEN s.delivered_seq IS NULL THEN 'null' ELSE {_DELIVERED} END",
    end=_winner("end", "ended_at"),
)
# The facts come as one JSON document: msgspec makes the records of it several times as fast as Python would.
STREAM_COLUMNS = f"{FACTS} AS facts, s.last_received_at, s.state, s.state_reason, s.revision"

_STATES = {state.value: state for state in State}
_decode_facts = msgspec.json.Decoder(StreamFacts).decode


def stored_stream(row: Any) -> StoredStream:
    """A row that begins with STREAM_COLUMNS as a record."""
    facts, last_received_at, state, state_reason, revision = row[:5]
    return StoredStream(
        facts=_decode_facts(facts),
        last_received_at=last_received_at,
        state=_STATES[state],
        state_reason=state_reason,
        revision=revision,
    )

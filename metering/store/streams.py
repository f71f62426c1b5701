"""Streams: the join of `domain/stream.py` as SQL, the claim of due work, and what the finalizer records."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from metering.domain.settlement import State
from metering.domain.stream import StreamFacts
from metering.records.documents import attributes_document
from metering.records.streams import STREAM_COLUMNS, StoredStream, stored_stream

# Parameters of UPSERT, in order: name and array type. `start_data` and `end_data` travel as text.
_UPSERT_COLUMNS: tuple[tuple[str, str], ...] = (
    ("customer_id", "text"),
    ("stream_id", "text"),
    ("started_at", "timestamptz"),
    ("start_fingerprint", "bigint"),
    ("start_data", "text"),
    ("start_conflicting", "boolean"),
    ("delivered_seq", "bigint"),
    ("delivered_output_tokens", "bigint"),
    ("delivered_reasoning_tokens", "bigint"),
    ("last_event_at", "timestamptz"),
    ("end_rank", "smallint"),
    ("ended_at", "timestamptz"),
    ("end_fingerprint", "bigint"),
    ("end_data", "text"),
    ("end_conflicting", "boolean"),
    ("last_received_at", "timestamptz"),
    ("due_at", "timestamptz"),
)

# The join, clause by clause as in domain/stream.py. `s` is what is stored, `excluded` what comes in.
_TAKE_START = """(excluded.started_at IS NOT NULL AND (s.started_at IS NULL
    OR (excluded.started_at, excluded.start_fingerprint) < (s.started_at, s.start_fingerprint)))"""
_START_CONFLICTING = """(s.start_conflicting OR excluded.start_conflicting
    OR COALESCE(s.start_fingerprint <> excluded.start_fingerprint, false))"""
_TAKE_END = """(excluded.end_rank IS NOT NULL AND (s.end_rank IS NULL
    OR (excluded.end_rank, excluded.ended_at, excluded.end_fingerprint)
     < (s.end_rank, s.ended_at, s.end_fingerprint)))"""
_END_CONFLICTING = f"""(CASE WHEN s.end_rank IS NOT DISTINCT FROM excluded.end_rank
    THEN s.end_conflicting OR excluded.end_conflicting
         OR COALESCE(s.end_fingerprint <> excluded.end_fingerprint, false)
    WHEN {_TAKE_END} THEN excluded.end_conflicting ELSE s.end_conflicting END)"""
_MAXIMA = ("delivered_seq", "delivered_output_tokens", "delivered_reasoning_tokens", "last_event_at")
_SAYS_SOMETHING_NEW = " OR ".join(
    [
        _TAKE_START,
        _TAKE_END,
        f"{_START_CONFLICTING} <> s.start_conflicting",
        f"{_END_CONFLICTING} <> s.end_conflicting",
        *(f"GREATEST(s.{name}, excluded.{name}) IS DISTINCT FROM s.{name}" for name in _MAXIMA),
    ]
)


def _either(condition: str, *names: str) -> str:
    return ", ".join(f"{name} = CASE WHEN {condition} THEN excluded.{name} ELSE s.{name} END" for name in names)


# A duplicate says nothing new and writes nothing. An open stream keeps its timer (due_at), which the sweep moves
# on when it fires, so that counting tokens never touches an index. Once the end is known, new facts are due now.
UPSERT = f"""
INSERT INTO streams AS s ({", ".join(name for name, _ in _UPSERT_COLUMNS)}, state)
SELECT {", ".join(f"{name}::jsonb" if name.endswith("_data") else name for name, _ in _UPSERT_COLUMNS)},
       CASE WHEN ended_at IS NULL THEN 'open' ELSE 'ended' END
FROM unnest({", ".join(f"%s::{type_}[]" for _, type_ in _UPSERT_COLUMNS)})
     AS joined ({", ".join(name for name, _ in _UPSERT_COLUMNS)})
ORDER BY customer_id, stream_id
ON CONFLICT (customer_id, stream_id) DO UPDATE SET
    {_either(_TAKE_START, "started_at", "start_fingerprint", "start_data")},
    start_conflicting = {_START_CONFLICTING},
    {", ".join(f"{name} = GREATEST(s.{name}, excluded.{name})" for name in _MAXIMA)},
    {_either(_TAKE_END, "end_rank", "ended_at", "end_fingerprint", "end_data")},
    end_conflicting = {_END_CONFLICTING},
    last_received_at = GREATEST(s.last_received_at, excluded.last_received_at),
    state = CASE WHEN s.state = 'open' AND excluded.ended_at IS NOT NULL THEN 'ended' ELSE s.state END,
    due_at = CASE WHEN s.ended_at IS NULL AND excluded.ended_at IS NULL
                  THEN COALESCE(s.due_at, excluded.due_at)
                  ELSE LEAST(s.due_at, excluded.last_received_at) END
WHERE {_SAYS_SOMETHING_NEW}
"""


def upsert_parameters(
    streams: Iterable[StreamFacts], *, received_at: datetime, abandon_after: timedelta
) -> list[list[Any]]:
    """The arrays that UPSERT unnests, one per column."""
    rows = [
        _upsert_row(facts, received_at=received_at, abandon_after=abandon_after)
        for facts in sorted(streams, key=lambda facts: (facts.customer_id, facts.stream_id))
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _upsert_row(facts: StreamFacts, *, received_at: datetime, abandon_after: timedelta) -> tuple[Any, ...]:
    start, delivered, end = facts.start, facts.delivered, facts.end
    return (
        facts.customer_id,
        facts.stream_id,
        start.event.time if start else None,
        start.fingerprint if start else None,
        attributes_document(start.event) if start else None,
        start.conflicting if start else False,
        delivered.seq if delivered else None,
        delivered.output_tokens if delivered else None,
        delivered.reasoning_output_tokens if delivered else None,
        facts.last_event_at,
        end.rank if end else None,
        end.event.time if end else None,
        end.fingerprint if end else None,
        attributes_document(end.event) if end else None,
        end.conflicting if end else False,
        received_at,
        received_at if end else received_at + abandon_after,
    )


_CLAIM = text(
    f"""
    SELECT {STREAM_COLUMNS} FROM streams s
    WHERE s.due_at <= :now
    ORDER BY s.due_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
    """
)


def claim_due(connection: Connection, *, now: datetime, limit: int) -> list[StoredStream]:
    """Lock up to `limit` due streams that no other worker has, the longest waiting first."""
    return [stored_stream(row) for row in connection.execute(_CLAIM, {"now": now, "limit": limit})]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMark:
    """What the finalizer leaves on a stream: its state, when to look again, and the newest booking."""

    customer_id: str
    stream_id: str
    state: State
    state_reason: str | None
    due_at: datetime | None
    revision: int | None


_MARK = """
UPDATE streams s SET state = m.state, state_reason = m.state_reason, due_at = m.due_at, revision = m.revision
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::integer[])
     AS m (customer_id, stream_id, state, state_reason, due_at, revision)
WHERE s.customer_id = m.customer_id AND s.stream_id = m.stream_id
"""


def mark_streams(connection: Connection, marks: Sequence[StreamMark]) -> None:
    """Record what was decided of streams that this transaction has claimed."""
    columns = [
        [mark.customer_id for mark in marks],
        [mark.stream_id for mark in marks],
        [mark.state.value for mark in marks],
        [mark.state_reason for mark in marks],
        [mark.due_at for mark in marks],
        [mark.revision for mark in marks],
    ]
    connection.exec_driver_sql(_MARK, tuple(columns))


_WAKE_UNPRICED = text(
    """
    UPDATE streams SET due_at = :now
    WHERE state = 'unpriced' AND due_at IS NULL AND start_data ->> 'provider' = ANY(:providers)
    """
)


def wake_unpriced(connection: Connection, *, providers: Sequence[str], now: datetime) -> int:
    """Have the finalizer look again at streams that lacked a rate of these providers; returns how many."""
    return connection.execute(_WAKE_UNPRICED, {"providers": list(providers), "now": now}).rowcount

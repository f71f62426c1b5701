"""Streams: the join of `streams/stream.py` in SQL, and how a stored stream is read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import psycopg
from sqlalchemy import Connection, text

from metering.db.citus import on_citus
from metering.db.rows import json_keys, json_rows
from metering.events.events import StreamEnd, StreamStart
from metering.streams.settlement import NEEDS_PERSON, State
from metering.streams.stream import StreamFacts

_encode = msgspec.json.Encoder(order="deterministic").encode


def attributes_document(event: StreamStart | StreamEnd) -> bytes:
    """The attributes of a start or an end, as stored in `start_data` and `end_data`."""
    return _encode(event.attributes())


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStream:
    """A stream as stored: its joined facts, and how far the finalizer is with it.

    `revision` is None before the charge, 0 after the charge, n after the n-th adjustment.
    """

    facts: StreamFacts
    last_received_at: datetime
    state: State
    state_reason: str | None
    revision: int | None


def _members(**members: str) -> str:
    """SQL for the members of a JSON object, as text. json_build_object would parse every member again."""
    return " || ',".join(f'"{name}":\' || {value}' for name, value in members.items())


def _json(**members: str) -> str:
    return f"'{{{_members(**members)} || '}}'"


_KEY = {"customer_id": "to_json(s.customer_id)", "stream_id": "to_json(s.stream_id)"}


def _winner(name: str, time: str) -> str:
    """SQL for a `Winner` as JSON. Its event is the key, the time and the stored attributes (without the brace)."""
    event = f"'{{{_members(**_KEY, time=f'to_json(s.{time})')} || ',' || substr(s.{name}_data::text, 2)"
    received = f"""CASE WHEN s.{name}_received_at IS NULL THEN ''
        ELSE ',"received_at":' || to_json(s.{name}_received_at) END"""
    winner = _json(
        event=event, fingerprint=f"s.{name}_fingerprint", conflicting=f"s.{name}_conflicting || {received}"
    )
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
    clock_ahead_seconds="COALESCE(s.clock_ahead_seconds::text, 'null')",
)
# The facts are read as one JSON document: msgspec builds the records from it several times as fast as Python.
STREAM_COLUMNS = f"{FACTS} AS facts, s.last_received_at, s.state, s.state_reason, s.revision"

_STATES = {state.value: state for state in State}

# As the partial index `streams_need_person` has it: a query that uses the index has the same text.
IN_BACKLOG = f"s.state IN ({', '.join(repr(state.value) for state in NEEDS_PERSON)})"
_decode_facts = msgspec.json.Decoder(StreamFacts).decode


def stored_stream(row: Any) -> StoredStream:
    """A row that starts with STREAM_COLUMNS as a record."""
    facts, last_received_at, state, state_reason, revision = row[:5]
    return StoredStream(
        facts=_decode_facts(facts),
        last_received_at=last_received_at,
        state=_STATES[state],
        state_reason=state_reason,
        revision=revision,
    )


# When a stream ended, as far as known: `StreamFacts.ended_at` in SQL.
ENDED_AT = "coalesce(s.end_received_at, s.ended_at, s.last_event_at)"


def response_key(customer_id: str, response_id: str) -> str:
    """SQL for the number by which a response is found; two responses can share one."""
    return f"hashtextextended({customer_id} || chr(31) || ({response_id}), 0)"


# As the index `streams_by_response` has it. Streams without an end, or whose end names no response, are not in it.
RESPONSE_KEY = response_key("s.customer_id", "s.end_data ->> 'response_id'")

# The fields of a row in UPSERT's JSON; a missing field is NULL.
_ROW_COLUMNS: tuple[tuple[str, str], ...] = (
    ("customer_id", "text"),
    ("stream_id", "text"),
    ("started_at", "timestamptz"),
    ("start_fingerprint", "bigint"),
    ("start_data", "json"),
    ("start_conflicting", "boolean"),
    ("start_received_at", "timestamptz"),
    ("delivered_seq", "bigint"),
    ("delivered_output_tokens", "bigint"),
    ("delivered_reasoning_tokens", "bigint"),
    ("last_event_at", "timestamptz"),
    ("end_rank", "smallint"),
    ("ended_at", "timestamptz"),
    ("end_fingerprint", "bigint"),
    ("end_data", "json"),
    ("end_conflicting", "boolean"),
    ("end_received_at", "timestamptz"),
    ("clock_ahead_seconds", "bigint"),
)


# The join, clause by clause as in streams/stream.py. `s` is the stored row, `excluded` the new one.
def _precedence(table: str, name: str, time: str) -> str:
    """SQL for what `_precedence` of streams/stream.py compares."""
    received = f"{table}.{name}_received_at"
    return f"{received} IS NOT NULL, {table}.{time}, {table}.{name}_fingerprint, COALESCE({received}, '-infinity')"


_TAKE_START = f"""(excluded.started_at IS NOT NULL AND (s.started_at IS NULL
    OR ({_precedence("excluded", "start", "started_at")}) < ({_precedence("s", "start", "started_at")})))"""
_START_CONFLICTING = """(s.start_conflicting OR excluded.start_conflicting
    OR COALESCE(s.start_fingerprint <> excluded.start_fingerprint, false))"""
_TAKE_END = f"""(excluded.end_rank IS NOT NULL AND (s.end_rank IS NULL
    OR (excluded.end_rank, {_precedence("excluded", "end", "ended_at")})
     < (s.end_rank, {_precedence("s", "end", "ended_at")})))"""
_END_CONFLICTING = f"""(CASE WHEN s.end_rank IS NOT DISTINCT FROM excluded.end_rank
    THEN s.end_conflicting OR excluded.end_conflicting
         OR COALESCE(s.end_fingerprint <> excluded.end_fingerprint, false)
    WHEN {_TAKE_END} THEN excluded.end_conflicting ELSE s.end_conflicting END)"""
_MAXIMA = (
    "delivered_seq",
    "delivered_output_tokens",
    "delivered_reasoning_tokens",
    "last_event_at",
    "clock_ahead_seconds",
)
_CHANGES_ROW = " OR ".join(
    [
        _TAKE_START,
        _TAKE_END,
        f"{_START_CONFLICTING} <> s.start_conflicting",
        f"{_END_CONFLICTING} <> s.end_conflicting",
        *(f"GREATEST(s.{name}, excluded.{name}) IS DISTINCT FROM s.{name}" for name in _MAXIMA),
    ]
)
_CAME_FIRST = "excluded.first_received_at < s.first_received_at"


def _either(condition: str, *names: str) -> str:
    return ", ".join(f"{name} = CASE WHEN {condition} THEN excluded.{name} ELSE s.{name} END" for name in names)


# The statement sorts by key, byte by byte as Python does, so that concurrent writers cannot deadlock. A duplicate
# writes nothing, unless by the clock of its process it came first: a stream's events are looked for from
# `first_received_at` on. An open
# stream keeps its `due_at`, which the finalizer moves forward once it is reached, so that counting tokens never
# touches an index. Once the end is known, new facts are due immediately.
UPSERT = f"""
INSERT INTO streams AS s ({", ".join(name for name, _ in _ROW_COLUMNS)}, first_received_at, last_received_at,
    due_at, state)
SELECT {", ".join(f"COALESCE({name}, false)" if type_ == "boolean" else name for name, type_ in _ROW_COLUMNS)},
       %(first_received_at)s, %(received_at)s,
       %(received_at)s + CASE WHEN ended_at IS NULL THEN %(abandon_after)s ELSE interval '0' END,
       CASE WHEN ended_at IS NULL THEN 'open' ELSE 'ended' END
FROM json_to_recordset(%(rows)s::json) AS joined ({", ".join(f"{name} {type_}" for name, type_ in _ROW_COLUMNS)})
ORDER BY customer_id COLLATE "C", stream_id COLLATE "C"
ON CONFLICT (customer_id, stream_id) DO UPDATE SET
    {_either(_TAKE_START, "started_at", "start_fingerprint", "start_data", "start_received_at")},
    start_conflicting = {_START_CONFLICTING},
    {", ".join(f"{name} = GREATEST(s.{name}, excluded.{name})" for name in _MAXIMA)},
    {_either(_TAKE_END, "end_rank", "ended_at", "end_fingerprint", "end_data", "end_received_at")},
    end_conflicting = {_END_CONFLICTING},
    first_received_at = LEAST(s.first_received_at, excluded.first_received_at),
    last_received_at = GREATEST(s.last_received_at, excluded.last_received_at),
    state = CASE WHEN s.state = 'open' AND excluded.ended_at IS NOT NULL THEN 'ended' ELSE s.state END,
    due_at = CASE WHEN {_CAME_FIRST} AND ({_CHANGES_ROW}) IS NOT TRUE THEN s.due_at
                  WHEN s.ended_at IS NULL AND excluded.ended_at IS NULL
                  THEN COALESCE(s.due_at, excluded.due_at)
                  ELSE LEAST(s.due_at, excluded.last_received_at) END
WHERE {_CHANGES_ROW} OR {_CAME_FIRST}
"""


class _Row(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One stream's joined facts, as _ROW_COLUMNS names them."""

    customer_id: str
    stream_id: str
    last_event_at: datetime
    started_at: datetime | None = None
    start_fingerprint: int | None = None
    start_data: msgspec.Raw | None = None
    start_conflicting: bool = False
    start_received_at: datetime | None = None
    delivered_seq: int | None = None
    delivered_output_tokens: int | None = None
    delivered_reasoning_tokens: int | None = None
    end_rank: int | None = None
    ended_at: datetime | None = None
    end_fingerprint: int | None = None
    end_data: msgspec.Raw | None = None
    end_conflicting: bool = False
    end_received_at: datetime | None = None
    clock_ahead_seconds: int | None = None


def upsert_parameters(
    streams: Iterable[StreamFacts],
    *,
    first_received_at: datetime,
    received_at: datetime,
    abandon_after: timedelta,
) -> dict[str, Any]:
    """The parameters of UPSERT, for joined facts that arrived from `first_received_at` until `received_at`."""
    return {
        "rows": json_rows(map(_row, streams)),
        "first_received_at": first_received_at,
        "received_at": received_at,
        "abandon_after": abandon_after,
    }


def _row(facts: StreamFacts) -> _Row:
    row = _Row(customer_id=facts.customer_id, stream_id=facts.stream_id, last_event_at=facts.last_event_at)
    if (start := facts.start) is not None:
        row.started_at = start.event.time
        row.start_fingerprint = start.fingerprint
        row.start_data = msgspec.Raw(attributes_document(start.event))
        row.start_conflicting = start.conflicting
        row.start_received_at = start.received_at
    if (delivered := facts.delivered) is not None:
        row.delivered_seq = delivered.seq
        row.delivered_output_tokens = delivered.output_tokens
        row.delivered_reasoning_tokens = delivered.reasoning_output_tokens
    if (end := facts.end) is not None:
        row.end_rank = end.rank
        row.ended_at = end.event.time
        row.end_fingerprint = end.fingerprint
        row.end_data = msgspec.Raw(attributes_document(end.event))
        row.end_conflicting = end.conflicting
        row.end_received_at = end.received_at
    row.clock_ahead_seconds = facts.clock_ahead_seconds
    return row


_READ = f"""
SELECT {STREAM_COLUMNS}
FROM json_to_recordset(CAST(:keys AS json)) AS wanted (customer_id text, stream_id text)
JOIN streams s ON s.customer_id = wanted.customer_id AND s.stream_id = wanted.stream_id
ORDER BY s.customer_id, s.stream_id
"""
_READ_STREAMS, _LOCK_STREAMS = text(_READ), text(f"{_READ} FOR UPDATE OF s")
# A row that was locked by another transaction meanwhile may no longer be due.
_READ_DUE = text(_READ.replace("ORDER BY", "WHERE s.due_at <= :now ORDER BY"))
# Citus locks rows of several shards by an UPDATE only.
_LOCK_ON_CITUS = text(
    """
    UPDATE streams s SET due_at = s.due_at
    FROM json_to_recordset(CAST(:keys AS json)) AS wanted (customer_id text, stream_id text)
    WHERE s.customer_id = wanted.customer_id AND s.stream_id = wanted.stream_id
    """
)


def read_streams(connection: Connection, streams: Sequence[tuple[str, str]], *, lock: bool) -> list[StoredStream]:
    """The streams given as (customer_id, stream_id); with `lock`, they are locked until the transaction ends."""
    keys = {"keys": json_keys(streams)}
    if lock and on_citus(connection):
        connection.execute(_LOCK_ON_CITUS, keys)
        lock = False
    rows = connection.execute(_LOCK_STREAMS if lock else _READ_STREAMS, keys).all()
    return [stored_stream(row) for row in rows]


def lock_due_streams(
    connection: Connection, streams: Sequence[tuple[str, str]], *, now: datetime
) -> list[StoredStream]:
    """Lock these streams on Citus until the transaction ends, and read those that are due."""
    keys = {"keys": json_keys(streams)}
    connection.execute(_LOCK_ON_CITUS, keys)
    return [stored_stream(row) for row in connection.execute(_READ_DUE, {**keys, "now": now})]


def join_stream(
    connection: Connection,
    facts: StreamFacts,
    *,
    first_received_at: datetime,
    received_at: datetime,
    abandon_after: timedelta,
) -> None:
    """Join facts with the stored stream, as ingest does; without a stored one, they are the stream."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    parameters = upsert_parameters(
        [facts], first_received_at=first_received_at, received_at=received_at, abandon_after=abandon_after
    )
    with raw.cursor() as cursor:
        cursor.execute(UPSERT.encode(), parameters)

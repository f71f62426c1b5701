"""Due streams: claims of them for the finalizer, and what it records of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, TextClause, text

from metering.db.citus import on_citus
from metering.db.rows import json_rows
from metering.streams.settlement import State
from metering.streams.store.lanes import LaneClaim, claim_keys, claim_streams
from metering.streams.store.streams import STREAM_COLUMNS, StoredStream, read_streams, stored_stream


def _claim(order: str, skipping: str = "") -> TextClause:
    return text(
        f"""
        SELECT {STREAM_COLUMNS} FROM streams s
        WHERE s.due_at <= :now {skipping}
        ORDER BY s.due_at {order}
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
        """
    )


_CLAIM_OLDEST, _CLAIM_NEWEST = _claim("ASC"), _claim("DESC")
_CLAIM_OTHERS = _claim("ASC", "AND s.customer_id <> ALL(:without)")


# A stream's facts are usually 1 kB of JSON and may be 512 kB: a batch is bounded by their size as well.
MAX_CLAIMED_CHARACTERS = 32 << 20
_FETCHED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Claim:
    """Streams that stay locked until the transaction ends. `is_full`: there may be more that are due."""

    streams: Sequence[StoredStream]
    is_full: bool


def claim_due(
    connection: Connection,
    *,
    now: datetime,
    limit: int,
    newest_first: bool = False,
    without: Sequence[str] = (),
    max_characters: int = MAX_CLAIMED_CHARACTERS,
) -> Claim:
    """Lock up to `limit` due streams that no other worker has locked, longest waiting first.

    It ends with the stream by which the facts of all together reach `max_characters`.

    A second claim at the same time is faster with `newest_first`: PostgreSQL takes longer to skip a row that
    another transaction has locked than to lock a free one. `without` these customers, all of theirs are read over.
    """
    if on_citus(connection):
        wanted = LaneClaim(now=now, limit=limit, newest_first=newest_first, without=without)
        streams, is_full = claim_streams(connection, wanted, max_characters=max_characters)
        return Claim(streams, is_full=is_full)
    parameters: dict[str, Any] = {"now": now, "limit": limit}
    if without:
        statement, parameters["without"] = _CLAIM_OTHERS, list(without)
    else:
        statement = _CLAIM_NEWEST if newest_first else _CLAIM_OLDEST
    claimed: list[StoredStream] = []
    characters = 0
    options = {"yield_per": min(_FETCHED_AT_ONCE, limit)}
    with connection.execute(statement, parameters, execution_options=options) as rows:
        for row in rows:
            claimed.append(stored_stream(row))
            characters += len(row[0])
            if characters >= max_characters:
                break
    return Claim(claimed, is_full=len(claimed) >= limit or characters >= max_characters)


_CLAIM_KEY = {
    newest_first: text(
        f"""
        SELECT s.customer_id, s.stream_id FROM streams s
        WHERE s.due_at <= :now AND s.customer_id <> ALL(:without)
        ORDER BY s.due_at {"DESC" if newest_first else "ASC"}
        LIMIT 1
        FOR UPDATE SKIP LOCKED
        """
    )
    for newest_first in (False, True)
}


def claim_key(
    connection: Connection, *, now: datetime, newest_first: bool, without: Sequence[str]
) -> tuple[str, str] | None:
    """Lock one due stream, as `claim_due` would, without reading its facts; None if none is due."""
    if on_citus(connection):
        wanted = LaneClaim(now=now, limit=1, newest_first=newest_first, without=without)
        keys, _ = claim_keys(connection, wanted, max_characters=1)
        return keys[0] if keys else None
    row = connection.execute(_CLAIM_KEY[newest_first], {"now": now, "without": list(without)}).first()
    return None if row is None else (row.customer_id, row.stream_id)


def claim_stream(connection: Connection, *, customer_id: str, stream_id: str) -> Claim:
    """The stream that `claim_key` has locked. `is_full`, since others may be due."""
    return Claim(read_streams(connection, [(customer_id, stream_id)], lock=True), is_full=True)


_SET_ASIDE = text(
    """
    UPDATE streams SET state = 'failed', state_reason = :reason, due_at = :due_at
    WHERE customer_id = :customer_id AND stream_id = :stream_id
    """
)


def set_aside(connection: Connection, *, customer_id: str, stream_id: str, reason: str, due_at: datetime) -> None:
    """Put a stream that cannot be finalized into the backlog, until it is due again. Its bookings stay."""
    connection.execute(
        _SET_ASIDE, {"customer_id": customer_id, "stream_id": stream_id, "reason": reason, "due_at": due_at}
    )


class StreamMark(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the finalizer records on a stream: its state, when it is due again, and the newest booking."""

    customer_id: str
    stream_id: str
    state: State
    state_reason: str | None = None
    due_at: datetime | None = None
    revision: int | None = None


_MARK = text(
    """
UPDATE streams s SET state = m.state, state_reason = m.state_reason, due_at = m.due_at, revision = m.revision
FROM json_to_recordset(CAST(:rows AS json))
     AS m (customer_id text, stream_id text, state text, state_reason text, due_at timestamptz, revision integer)
WHERE s.customer_id = m.customer_id AND s.stream_id = m.stream_id
"""
)


def mark_streams(connection: Connection, marks: Sequence[StreamMark]) -> None:
    """Record the new state of streams that this transaction has claimed."""
    connection.execute(_MARK, {"rows": json_rows(marks)})


_WAKE = text("UPDATE streams SET due_at = :now WHERE customer_id = :customer_id AND stream_id = :stream_id")


def wake_stream(connection: Connection, *, customer_id: str, stream_id: str, now: datetime) -> None:
    """Make a stream that this transaction has locked due for the finalizer."""
    connection.execute(_WAKE, {"customer_id": customer_id, "stream_id": stream_id, "now": now})


_WAKE_UNPRICED = text(
    """
    UPDATE streams s SET due_at = :now
    FROM (SELECT customer_id, stream_id FROM streams WHERE state = 'unpriced' AND due_at IS NULL
          ORDER BY customer_id, stream_id FOR UPDATE SKIP LOCKED) AS waiting
    WHERE s.customer_id = waiting.customer_id AND s.stream_id = waiting.stream_id
    """
)
_WAKE_ON_CITUS = text("UPDATE streams SET due_at = :now WHERE state = 'unpriced' AND due_at IS NULL")


def wake_unpriced(connection: Connection, *, now: datetime) -> int:
    """Make streams that lacked a rate due for the finalizer; returns how many."""
    statement = _WAKE_ON_CITUS if on_citus(connection) else _WAKE_UNPRICED
    return connection.execute(statement, {"now": now}).rowcount

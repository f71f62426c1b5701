"""Interrupted streams and their retries.

The finalizer links a stream to an interruption that its transaction can see. Interruptions that it cannot see yet,
because they are recorded later or in a concurrent transaction, are linked by ledger/link_retries.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, TextClause, text

from metering.db.citus import on_citus
from metering.db.rows import json_keys, json_rows
from metering.streams.retries import Interruption


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A stream that may be a retry: what it requested, and when."""

    customer_id: str
    stream_id: str
    request_key: int
    started_at: datetime


_ADD = text(
    """
INSERT INTO interrupted_streams AS i
    (customer_id, stream_id, request_key, ended_at, interrupted, retry_from, retry_until)
SELECT customer_id, stream_id, request_key, ended_at, true, ended_at, ended_at
FROM json_to_recordset(CAST(:rows AS json))
     AS new (customer_id text, stream_id text, request_key bigint, ended_at timestamptz)
ORDER BY customer_id, stream_id
ON CONFLICT (customer_id, stream_id) DO UPDATE SET
    request_key = excluded.request_key, ended_at = excluded.ended_at, interrupted = true,
    retry_from = LEAST(i.retry_from, excluded.ended_at), retry_until = GREATEST(i.retry_until, excluded.ended_at),
    retry_keys = CASE WHEN i.request_key = excluded.request_key THEN i.retry_keys
                      ELSE array_append(array_remove(i.retry_keys, i.request_key), i.request_key) END,
    linked = false, barrier = NULL
WHERE (i.request_key, i.ended_at, i.interrupted) IS DISTINCT FROM (excluded.request_key, excluded.ended_at, true)
"""
)

_WITHDRAW = text(
    """
UPDATE interrupted_streams i SET interrupted = false, linked = false, barrier = NULL
FROM json_to_recordset(CAST(:keys AS json)) AS gone (customer_id text, stream_id text)
WHERE i.customer_id = gone.customer_id AND i.stream_id = gone.stream_id AND i.interrupted
"""
)

# Most streams repeat no interrupted request. A lookup of their keys alone is cheap and sorts those out.
_KNOWN = text(
    """
SELECT DISTINCT i.request_key
FROM unnest(CAST(:request_keys AS bigint[])) AS wanted (request_key) JOIN interrupted_streams i USING (request_key)
WHERE i.interrupted
"""
)

# Of several interruptions the latest counts.
_FIND = text(
    """
SELECT a.customer_id, a.stream_id, found.stream_id AS retry_of
FROM json_to_recordset(CAST(:attempts AS json))
     AS a (customer_id text, stream_id text, request_key bigint, started_at timestamptz)
CROSS JOIN LATERAL (
    SELECT i.stream_id FROM interrupted_streams i
    WHERE i.interrupted AND i.request_key = a.request_key AND i.customer_id = a.customer_id
      AND i.stream_id <> a.stream_id
      AND i.ended_at <= a.started_at AND i.ended_at >= a.started_at - CAST(:window AS interval)
    ORDER BY i.ended_at DESC, i.stream_id DESC LIMIT 1
) AS found
"""
)
# Citus does not join a function's rows laterally with a limit.
_FIND_ON_CITUS = text(
    """
SELECT DISTINCT ON (a.customer_id, a.stream_id) a.customer_id, a.stream_id, i.stream_id AS retry_of
FROM json_to_recordset(CAST(:attempts AS json))
     AS a (customer_id text, stream_id text, request_key bigint, started_at timestamptz)
JOIN interrupted_streams i ON i.interrupted AND i.request_key = a.request_key AND i.customer_id = a.customer_id
  AND i.stream_id <> a.stream_id
  AND i.ended_at <= a.started_at AND i.ended_at >= a.started_at - CAST(:window AS interval)
ORDER BY a.customer_id, a.stream_id, i.ended_at DESC, i.stream_id DESC
"""
)


def add_interruptions(connection: Connection, interruptions: Sequence[Interruption]) -> None:
    """Record streams that ended early, or whose early end has another time than recorded."""
    if interruptions:
        connection.execute(_ADD, {"rows": json_rows(interruptions)})


def withdraw_interruptions(connection: Connection, streams: Sequence[tuple[str, str]]) -> None:
    """Record that these streams, given as (customer_id, stream_id), did not end early after all."""
    if streams:
        connection.execute(_WITHDRAW, {"keys": json_keys(streams)})


def interrupted_requests(connection: Connection, request_keys: Iterable[int]) -> set[int]:
    """Those request keys for which a stream was interrupted, at any time."""
    keys = list(request_keys)
    return set(connection.execute(_KNOWN, {"request_keys": keys}).scalars()) if keys else set()


def find_interrupted(
    connection: Connection, attempts: Sequence[Attempt], *, window: timedelta
) -> dict[tuple[str, str], str]:
    """The interrupted stream that each attempt is a retry of, by (customer_id, stream_id); most are not retries.

    An attempt is a retry if it starts at most `window` after the interruption.
    """
    if not attempts:
        return {}
    parameters = {"attempts": json_rows(attempts), "window": window}
    rows = connection.execute(_FIND_ON_CITUS if on_citus(connection) else _FIND, parameters)
    return {(row.customer_id, row.stream_id): row.retry_of for row in rows}


# A finalizer that was running when an interruption was committed may not have seen it. The barrier of an
# interruption is passed when all transactions that were running when it was set have ended: their bookings are
# visible then.
_SET_BARRIERS = text(
    """
    UPDATE interrupted_streams SET barrier = pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    WHERE (customer_id, stream_id) IN (
        SELECT customer_id, stream_id FROM interrupted_streams WHERE NOT linked AND barrier IS NULL
        ORDER BY customer_id, stream_id LIMIT :limit FOR UPDATE SKIP LOCKED)
    """
)


def _to_link(condition: str) -> TextClause:
    return text(
        f"""
        SELECT customer_id, stream_id, request_key, retry_keys, retry_from, retry_until, barrier
        FROM interrupted_streams WHERE NOT linked AND {condition}
        ORDER BY customer_id, stream_id LIMIT :limit
        """
    )


_PAST_BARRIER = _to_link("barrier <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
# A node of Citus does not know the transactions of the others. There a barrier is only a number of its own, and
# what links waits for bookings.
_HAS_BARRIER = _to_link("barrier IS NOT NULL")
_NEW_BARRIER = text("SELECT pg_current_xact_id()::text::bigint")
_SET_ON_CITUS = text(
    """
    UPDATE interrupted_streams SET barrier = :barrier WHERE (customer_id, stream_id) IN (
        SELECT customer_id, stream_id FROM interrupted_streams
        WHERE NOT linked AND barrier IS NULL LIMIT :limit)
    """
)
# Sorted, like every statement that locks several streams, so that they cannot deadlock. Citus sorts by shard.
_WAKE, _WAKE_ON_CITUS = (
    text(
        f"""
UPDATE streams s SET due_at = LEAST(s.due_at, :now)
FROM (SELECT s.customer_id, s.stream_id
      FROM json_to_recordset(CAST(:rows AS json)) AS t (customer_id text, stream_id text, request_key bigint,
                                                   retry_keys bigint[], retry_from timestamptz,
                                                   retry_until timestamptz)
      JOIN charges c ON c.request_key = ANY (t.retry_keys || t.request_key) AND c.customer_id = t.customer_id
       AND c.stream_id <> t.stream_id
       AND c.started_at >= t.retry_from AND c.started_at <= t.retry_until + CAST(:window AS interval)
      JOIN streams s ON s.customer_id = c.customer_id AND s.stream_id = c.stream_id
      {locked}) AS retries
WHERE s.customer_id = retries.customer_id AND s.stream_id = retries.stream_id
"""
    )
    for locked in ("ORDER BY s.customer_id, s.stream_id FOR UPDATE OF s", "")
)
_LINKED = text(
    """
UPDATE interrupted_streams i
SET linked = true, retry_keys = '{}', retry_from = i.ended_at, retry_until = i.ended_at
FROM json_to_recordset(CAST(:rows AS json)) AS t (customer_id text, stream_id text, barrier bigint)
WHERE i.customer_id = t.customer_id AND i.stream_id = t.stream_id AND i.barrier = t.barrier
"""
)


def set_barriers(connection: Connection, *, limit: int) -> None:
    """Set the barrier of up to `limit` new interruptions, which delays their linking until it is safe."""
    if on_citus(connection):
        barrier = connection.execute(_NEW_BARRIER).scalar_one()
        connection.execute(_SET_ON_CITUS, {"barrier": barrier, "limit": limit})
    else:
        connection.execute(_SET_BARRIERS, {"limit": limit})


def interruptions_to_link(connection: Connection, *, limit: int) -> list[dict[str, Any]]:
    """Up to `limit` interruptions past their barrier: all retries that were booked without them are visible.

    On Citus they are once running bookings have ended.
    """
    statement = _HAS_BARRIER if on_citus(connection) else _PAST_BARRIER
    return [dict(row._mapping) for row in connection.execute(statement, {"limit": limit})]


def wake_retries(
    connection: Connection, interruptions: Sequence[dict[str, Any]], *, window: timedelta, now: datetime
) -> int:
    """Make the retries of these interruptions due for the finalizer; returns how many."""
    parameters = {"rows": json_rows(interruptions), "window": window, "now": now}
    return connection.execute(_WAKE_ON_CITUS if on_citus(connection) else _WAKE, parameters).rowcount


def mark_linked(connection: Connection, interruptions: Sequence[dict[str, Any]]) -> None:
    """Record that the retries of these interruptions were linked, unless the interruptions changed meanwhile."""
    connection.execute(_LINKED, {"rows": json_rows(interruptions)})

"""SQL of holds and overruns."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, text

from metering.budgets.budget import Standing
from metering.budgets.holds import Hold, HoldRequest, HoldState, Overrun, StreamKey
from metering.db.rows import copy_rows, json_keys, json_rows, moment
from metering.db.together import Query, Statement

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode_request = msgspec.json.Decoder(HoldRequest).decode
_decode_standings = msgspec.json.Decoder(tuple[Standing, ...]).decode

# The select list for `hold_of_row`; `h` is an alias of `holds`.
HOLD_ROW = """h.request::text AS request, h.held_usd_cents, h.covers_output_tokens, h.state, h.is_stopped,
h.made_at,
    h.expires_at, h.budget_ids, h.standings::text AS standings"""


def hold_of_row(row: Any) -> Hold:
    """The hold in a row selected with HOLD_ROW."""
    return Hold(
        request=_decode_request(row.request),
        held_usd_cents=row.held_usd_cents,
        covers_output_tokens=row.covers_output_tokens,
        state=HoldState(row.state),
        is_stopped=row.is_stopped,
        made_at=row.made_at,
        expires_at=row.expires_at,
        budget_ids=tuple(row.budget_ids),
        standings=_decode_standings(row.standings),
    )


_HOLDS = text(
    f"""
    SELECT {HOLD_ROW} FROM json_to_recordset(CAST(:keys AS json)) AS wanted (customer_id text, stream_id text)
    JOIN holds h ON h.customer_id = wanted.customer_id AND h.stream_id = wanted.stream_id
    """
)


def read_holds(connection: Connection, streams: Iterable[StreamKey]) -> dict[StreamKey, Hold]:
    """The holds of these streams by (customer_id, stream_id), whatever their state."""
    return holds_of(streams).ask(connection)


def holds_of(streams: Iterable[StreamKey]) -> Query[dict[StreamKey, Hold]]:
    """The same as a query."""
    return Query(_HOLDS, {"keys": json_keys(streams)}, _holds_by_stream)


def _holds_by_stream(rows: Iterable[Any]) -> dict[StreamKey, Hold]:
    return {hold.request.key: hold for hold in map(hold_of_row, rows)}


_ADD = text(
    """
    INSERT INTO holds (customer_id, stream_id, request, fingerprint, mode, held_usd_cents, covers_output_tokens,
                       state, is_stopped, made_at, expires_at, budget_ids, standings)
    SELECT customer_id, stream_id, request, fingerprint, mode, held_usd_cents, covers_output_tokens,
           state, is_stopped, made_at, expires_at, budget_ids, standings
    FROM json_to_recordset(CAST(:rows AS json))
         AS r (customer_id text, stream_id text, request json, fingerprint bigint, mode text,
               held_usd_cents numeric, covers_output_tokens bigint, state text, is_stopped boolean,
               made_at timestamptz, expires_at timestamptz, budget_ids text[], standings json)
    """
)


def adding_holds(holds: Sequence[Hold]) -> list[Statement]:
    """The statement that stores new holds, if there are any. The database refuses a second one of a stream."""
    return [(_ADD, {"rows": json_rows(map(_added, holds))})] if holds else []


def _added(hold: Hold) -> dict[str, Any]:
    request = hold.request
    return {
        "customer_id": request.customer_id,
        "stream_id": request.stream_id,
        "request": msgspec.Raw(_encode(request)),
        "fingerprint": request.fingerprint,
        "mode": request.mode.value,
        "held_usd_cents": hold.held_usd_cents,
        "covers_output_tokens": hold.covers_output_tokens,
        "state": hold.state.value,
        "is_stopped": hold.is_stopped,
        "made_at": hold.made_at,
        "expires_at": hold.expires_at,
        "budget_ids": hold.budget_ids,
        "standings": msgspec.Raw(_encode(hold.standings)),
    }


_REMOVE = text(
    """
    DELETE FROM holds h USING json_to_recordset(CAST(:keys AS json)) AS r (customer_id text, stream_id text)
    WHERE h.customer_id = r.customer_id AND h.stream_id = r.stream_id AND h.state <> 'open'
    """
)


def removing_holds(streams: Sequence[StreamKey]) -> list[Statement]:
    """The statement that removes closed holds: their streams get new ones, or they are past their retention."""
    return [(_REMOVE, {"keys": json_keys(streams)})] if streams else []


_OLD = text("SELECT customer_id, stream_id FROM holds WHERE closed_at < :before ORDER BY closed_at LIMIT :limit")


def closed_before(connection: Connection, *, before: datetime, limit: int) -> Sequence[StreamKey]:
    """Up to `limit` streams whose holds were closed before this time, the oldest first."""
    rows = connection.execute(_OLD, {"before": before, "limit": limit})
    return [(row.customer_id, row.stream_id) for row in rows]


_KEPT_SINCE = text(
    """
    INSERT INTO holds_kept (since) VALUES (:since)
    ON CONFLICT (one) DO UPDATE SET since = GREATEST(holds_kept.since, excluded.since)
    """
)


def note_kept_since(connection: Connection, since: datetime) -> None:
    """Record that closed holds from before this time are removed. It never moves back."""
    connection.execute(_KEPT_SINCE, {"since": since})


class ClosedHold(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How an open hold ends. `settled_usd_cents` is what the stream's charge booked."""

    customer_id: str
    stream_id: str
    state: HoldState
    settled_usd_cents: Decimal | None = None


_CLOSE = text(
    """
    UPDATE holds h SET state = r.state, settled_usd_cents = r.settled_usd_cents, closed_at = :now
    FROM json_to_recordset(CAST(:rows AS json))
         AS r (customer_id text, stream_id text, state text, settled_usd_cents numeric)
    WHERE h.customer_id = r.customer_id AND h.stream_id = r.stream_id AND h.state = 'open'
    """
)


def close_holds(connection: Connection, closed: Sequence[ClosedHold], *, now: datetime) -> None:
    """Close open holds. What their budgets hold is changed apart (`store.budgets.adding_held`)."""
    if closed:
        connection.execute(_CLOSE, {"rows": json_rows(closed), "now": now})


class ExtendedHold(Struct, frozen=True, kw_only=True):
    """A sliding hold's new amount and cover; `is_stopped`: it could not be extended, and its stream has to end."""

    customer_id: str
    stream_id: str
    held_usd_cents: Decimal
    covers_output_tokens: int
    is_stopped: bool


_EXTEND = text(
    """
    UPDATE holds h SET held_usd_cents = r.held_usd_cents, covers_output_tokens = r.covers_output_tokens,
                       is_stopped = r.is_stopped
    FROM json_to_recordset(CAST(:rows AS json)) AS r (customer_id text, stream_id text, held_usd_cents numeric,
                                                      covers_output_tokens bigint, is_stopped boolean)
    WHERE h.customer_id = r.customer_id AND h.stream_id = r.stream_id AND h.state = 'open'
    """
)


def extend_holds(connection: Connection, extended: Sequence[ExtendedHold]) -> None:
    """Record that holds cover more, or that their streams have to end."""
    if extended:
        connection.execute(_EXTEND, {"rows": json_rows(extended)})


_RENEW = text(
    """
    UPDATE holds h SET expires_at = r.expires_at
    FROM json_to_recordset(CAST(:rows AS json)) AS r (customer_id text, stream_id text, expires_at timestamptz)
    WHERE h.customer_id = r.customer_id AND h.stream_id = r.stream_id AND h.state = 'open'
    """
)


def renew_holds(connection: Connection, renewed: Iterable[tuple[StreamKey, datetime]]) -> None:
    """Set when open holds expire, given as ((customer_id, stream_id), time)."""
    rows = [{"customer_id": key[0], "stream_id": key[1], "expires_at": at} for key, at in renewed]
    if rows:
        connection.execute(_RENEW, {"rows": json_rows(rows)})


_COPY_OVERRUNS = """COPY overruns (customer_id, entry_id, stream_id, reason, usd_cents, held_usd_cents, booked_at)
                    FROM STDIN"""


def add_overruns(connection: Connection, overruns: Iterable[Overrun]) -> None:
    """Record what was booked beyond holds. The database refuses an entry twice."""
    rows = [
        (
            each.customer_id,
            each.entry_id,
            each.stream_id,
            each.reason.value,
            each.usd_cents,
            each.held_usd_cents,
            moment(each.booked_at),
        )
        for each in overruns
    ]
    if rows:
        copy_rows(connection, _COPY_OVERRUNS, rows)

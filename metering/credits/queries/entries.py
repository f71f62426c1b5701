"""Queries for the entries of grants."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from metering.credits.grant import EntryKind, GrantEntry

_ENTRY = """e.customer_id, e.grant_id, e.entry_number, e.kind, e.usd_cents, e.balance_usd_cents, e.released_cents,
    e.booked_at, e.period, e.entry_id, e.stream_id, e.entry_period, e.reason, e.booked_by"""


def _entry_of_row(row: Any) -> GrantEntry:
    return GrantEntry(**{**row._mapping, "kind": EntryKind(row.kind)})


_ONE = text(
    f"""
    SELECT {_ENTRY} FROM grants g
    JOIN grant_entries e ON e.customer_id = g.customer_id AND e.grant_id = g.grant_id
    WHERE g.grant_id = :grant_id AND e.entry_number = :entry_number
    """
)
_BEFORE = text(
    f"""
    SELECT {_ENTRY} FROM grants g
    JOIN grant_entries e ON e.customer_id = g.customer_id AND e.grant_id = g.grant_id
    WHERE g.grant_id = :grant_id AND (CAST(:before AS bigint) IS NULL OR e.entry_number < :before)
    ORDER BY e.entry_number DESC LIMIT :limit
    """
)
_OF_STREAM = text(
    f"""
    SELECT {_ENTRY} FROM grant_entries e
    WHERE e.customer_id = :customer_id AND e.stream_id = :stream_id ORDER BY e.entry_order LIMIT :limit
    """
)


def get_entry(connection: Connection, *, grant_id: str, entry_number: int) -> GrantEntry:
    """An entry of a grant; it must exist."""
    row = connection.execute(_ONE, {"grant_id": grant_id, "entry_number": entry_number}).one()
    return _entry_of_row(row)


def list_entries(connection: Connection, *, grant_id: str, before: int | None, limit: int) -> Sequence[GrantEntry]:
    """Up to `limit` entries of a grant, newest first, before the entry with the number `before`."""
    parameters = {"grant_id": grant_id, "before": before, "limit": limit}
    return [_entry_of_row(row) for row in connection.execute(_BEFORE, parameters)]


def entries_of_stream(
    connection: Connection, *, customer_id: str, stream_id: str, limit: int
) -> Sequence[GrantEntry]:
    """The first `limit` draws of a stream and their restoring, in the order of booking."""
    parameters = {"customer_id": customer_id, "stream_id": stream_id, "limit": limit}
    return [_entry_of_row(row) for row in connection.execute(_OF_STREAM, parameters)]

"""Queries about the streams of holds: which are final, which have begun, which leases have ended."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, text

from metering.budgets.holds import StreamKey
from metering.db.rows import json_keys
from metering.db.together import Query

_FINAL = text(
    """
    SELECT s.customer_id, s.stream_id
    FROM json_to_recordset(CAST(:keys AS json)) AS wanted (customer_id text, stream_id text)
    JOIN streams s ON s.customer_id = wanted.customer_id AND s.stream_id = wanted.stream_id
    WHERE s.revision IS NOT NULL
    """
)


def final_streams(streams: Iterable[StreamKey]) -> Query[frozenset[StreamKey]]:
    """Those of these streams whose charge is booked."""
    return Query(
        _FINAL,
        {"keys": json_keys(streams)},
        lambda rows: frozenset((row.customer_id, row.stream_id) for row in rows),
    )


_HAS_STREAM = text(
    "SELECT EXISTS (SELECT FROM streams WHERE customer_id = :customer_id AND stream_id = :stream_id)"
)


def has_stream(connection: Connection, *, customer_id: str, stream_id: str) -> bool:
    """Whether an event of the stream has arrived."""
    return bool(connection.execute(_HAS_STREAM, {"customer_id": customer_id, "stream_id": stream_id}).scalar_one())


@dataclass(frozen=True, slots=True)
class EndedLease:
    """An open hold whose lease has ended, and its stream, if it has begun.

    `booked_usd_cents` is the stream's charge, if it is booked.
    """

    customer_id: str
    stream_id: str
    has_stream: bool
    last_received_at: datetime | None
    booked_usd_cents: Decimal | None


def _ended(customers: str) -> str:
    # Limited only after the joins: Citus would move all streams and charges to the coordinator for a few holds.
    return f"""
    SELECT h.customer_id, h.stream_id, s.stream_id IS NOT NULL AS has_stream, s.last_received_at,
           CASE WHEN s.revision IS NOT NULL THEN c.usd_cents END AS booked_usd_cents
    FROM holds h
    LEFT JOIN streams s ON s.customer_id = h.customer_id AND s.stream_id = h.stream_id
    LEFT JOIN charges c ON c.customer_id = h.customer_id AND c.stream_id = h.stream_id
    WHERE h.state = 'open' AND h.expires_at <= :now {customers}
    ORDER BY h.expires_at, h.customer_id, h.stream_id LIMIT :limit
    """


_ENDED, _ENDED_OF = text(_ended("")), text(_ended("AND h.customer_id = ANY(:customer_ids)"))


def ended_leases(
    connection: Connection, *, now: datetime, limit: int, customer_ids: Collection[str] | None = None
) -> Sequence[EndedLease]:
    """The open holds whose lease ended first, of all customers or of these."""
    parameters: dict[str, object] = {"now": now, "limit": limit}
    statement = _ENDED
    if customer_ids is not None:
        statement, parameters["customer_ids"] = _ENDED_OF, list(customer_ids)
    return [EndedLease(*row) for row in connection.execute(statement, parameters)]

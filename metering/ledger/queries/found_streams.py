"""Streams as a person looks for them: final ones by what their newest bill says, open ones, or by id."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from metering.streams.store.streams import STREAM_COLUMNS, StoredStream, stored_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalFilter:
    """Which final streams, by their end, half-open; None leaves a filter out, "" is what is not known."""

    from_: datetime
    to: datetime
    customer_id: str | None = None
    provider: str | None = None
    model: str | None = None
    outcomes: Sequence[str] | None = None
    usage_source: str | None = None
    api_key_id: str | None = None
    retry: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStream:
    """A final stream, by its newest bill; credits and corrections are not in `usd_cents`."""

    customer_id: str
    stream_id: str
    ended_at: datetime
    provider: str
    model: str
    outcome: str
    usage_source: str
    api_key_id: str
    input_tokens: int | None
    output_tokens: int | None
    retry: bool
    adjusted: bool
    usd_cents: Decimal


Position = tuple[datetime, str, str]

_EQUAL = ("customer_id", "provider", "model", "usage_source", "api_key_id", "retry")


def find_streams(
    connection: Connection, *, where: FinalFilter, before: Position | None, limit: int
) -> Sequence[FoundStream]:
    """Up to `limit` final streams, the last ended first, behind a position (ended_at, customer_id, stream_id)."""
    given: dict[str, Any] = {name: value for name in _EQUAL if (value := getattr(where, name)) is not None}
    conditions = [f"{name} = :{name}" for name in given]
    if where.outcomes is not None:
        given["outcomes"] = list(where.outcomes)
        conditions.append("outcome = ANY(:outcomes)")
    if before is not None:
        given |= dict(zip(("before", "before_customer", "before_stream"), before, strict=True))
        conditions.append("(ended_at, customer_id, stream_id) < (:before, :before_customer, :before_stream)")
    query = f"""
        SELECT * FROM (
            SELECT b.customer_id, b.stream_id, b.ended_at, b.provider, b.model, b.outcome, b.usage_source,
                   coalesce(b.api_key_id, '') AS api_key_id, b.input_tokens, b.output_tokens,
                   b.retry_of IS NOT NULL AS retry, b.revision > 0 AS adjusted, b.bill_usd_cents AS usd_cents
            FROM newest_bills b WHERE NOT b.taken_back AND b.ended_at >= :from_ AND b.ended_at < :to
        ) AS found WHERE {" AND ".join(conditions) or "true"}
        ORDER BY ended_at DESC, customer_id DESC, stream_id DESC LIMIT :limit
    """
    parameters = {**given, "from_": where.from_, "to": where.to, "limit": limit}
    return [FoundStream(**row._mapping) for row in connection.execute(text(query), parameters)]


_UNDER_WAY = text(
    f"""
    SELECT {STREAM_COLUMNS} FROM streams s
    WHERE s.due_at IS NOT NULL AND s.state IN ('open', 'ended')
      AND (CAST(:customer_id AS text) IS NULL OR s.customer_id = :customer_id)
    ORDER BY s.last_event_at DESC, s.customer_id, s.stream_id LIMIT :limit
    """
)


def list_under_way(connection: Connection, *, customer_id: str | None, limit: int) -> Sequence[StoredStream]:
    """Streams that are not final and need nobody, the last heard of first."""
    rows = connection.execute(_UNDER_WAY, {"customer_id": customer_id, "limit": limit})
    return [stored_stream(row) for row in rows]


# A stream's key begins with its customer: each customer is asked for it, which takes microseconds each.
_BY_ID = text(
    f"""
    SELECT {STREAM_COLUMNS} FROM customers
    CROSS JOIN LATERAL (SELECT * FROM streams WHERE streams.customer_id = customers.customer_id
                        AND streams.stream_id = :stream_id) AS s
    WHERE CAST(:customer_id AS text) IS NULL OR customers.customer_id = :customer_id
    ORDER BY s.last_event_at DESC LIMIT :limit
    """
)


def find_by_id(
    connection: Connection, *, stream_id: str, customer_id: str | None, limit: int
) -> Sequence[StoredStream]:
    """The streams with this id, of one customer or of any."""
    rows = connection.execute(_BY_ID, {"stream_id": stream_id, "customer_id": customer_id, "limit": limit})
    return [stored_stream(row) for row in rows]

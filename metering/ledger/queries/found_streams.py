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

_OF_CHARGE = """
    c.customer_id, c.stream_id, c.ended_at, c.provider, c.model, c.outcome, c.usage_source,
    coalesce(c.api_key_id, '') AS api_key_id, c.input_tokens, c.output_tokens, c.retry_of IS NOT NULL AS retry,
    false AS adjusted, c.usd_cents
"""
_OF_ADJUSTMENT = """
    a.customer_id, a.stream_id, a.ended_at, a.bill ->> 'provider' AS provider, a.bill ->> 'model' AS model,
    a.bill ->> 'outcome' AS outcome, a.bill ->> 'usage_source' AS usage_source,
    coalesce(a.bill ->> 'api_key_id', '') AS api_key_id,
    CAST(a.bill -> 'usage' ->> 'input_tokens' AS bigint) AS input_tokens,
    CAST(a.bill -> 'usage' ->> 'output_tokens' AS bigint) AS output_tokens,
    a.bill ->> 'retry_of' IS NOT NULL AS retry, true AS adjusted,
    (SELECT coalesce(sum(CAST(line ->> 'usd_cents' AS numeric)), 0)
     FROM jsonb_array_elements(a.bill -> 'lines') AS line) AS usd_cents
"""
_NOT_ADJUSTED = """
    NOT EXISTS (SELECT FROM adjustments a WHERE a.customer_id = c.customer_id AND a.stream_id = c.stream_id)
"""
_NEWEST = """
    a.bill IS NOT NULL
    AND NOT EXISTS (SELECT FROM adjustments newer WHERE newer.customer_id = a.customer_id
                    AND newer.stream_id = a.stream_id AND newer.revision > a.revision)
"""
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
    page = "ORDER BY ended_at DESC, customer_id DESC, stream_id DESC LIMIT :limit"
    filtered = f"WHERE {' AND '.join(conditions) or 'true'} {page}"
    query = f"""
        SELECT * FROM (
            (SELECT * FROM (SELECT {_OF_CHARGE} FROM charges c WHERE c.ended_at >= :from_ AND c.ended_at < :to
                            AND {_NOT_ADJUSTED}) AS charged {filtered})
            UNION ALL
            (SELECT * FROM (SELECT {_OF_ADJUSTMENT} FROM adjustments a
                            WHERE a.ended_at >= :from_ AND a.ended_at < :to AND {_NEWEST}) AS adjusted {filtered})
        ) AS found {page}
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

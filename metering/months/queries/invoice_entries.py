"""The entries that a line of an invoice sums: charges, adjustments, credits and corrections, one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from metering.months.invoice import ClosedPeriod, InvoiceLine, LineKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One booking: when it counts, what it is, its exact amount; `stream_id` is None for a customer's own."""

    id: str
    at: datetime
    what: str
    stream_id: str | None
    usd_cents: Decimal


# A month's own streams ended since it began; late ones before, in the month of the line.
_OF_LINE = """
    c.customer_id = :customer_id AND c.provider = :provider AND c.model = :model
    AND CASE WHEN CAST(:month AS text) IS NULL THEN c.ended_at >= :starts_at
             ELSE c.ended_at < :starts_at AND to_char(c.ended_at AT TIME ZONE :time_zone, 'YYYY-MM') = :month END
"""
_CHARGES = f"""
    SELECT c.charge_id AS id, c.ended_at AS at, 'charge' AS what, c.stream_id, c.usd_cents FROM charges c
    WHERE c.period = :period AND {_OF_LINE}
"""
_OWN_ADJUSTMENTS = f"""
    SELECT a.adjustment_id, a.booked_at, a.reason, a.stream_id, a.usd_cents
    FROM adjustments a JOIN charges c ON c.customer_id = a.customer_id AND c.stream_id = a.stream_id
    WHERE a.period = :period AND c.period = :period AND {_OF_LINE}
"""
_LATER_ADJUSTMENTS = """
    SELECT a.adjustment_id AS id, a.booked_at AS at, a.reason AS what, a.stream_id, a.usd_cents
    FROM adjustments a JOIN charges c ON c.customer_id = a.customer_id AND c.stream_id = a.stream_id
    WHERE a.period = :period AND c.customer_id = :customer_id AND c.period = :month AND c.provider = :provider
      AND c.model = :model
"""
_BY_HAND = """
    SELECT m.adjustment_id AS id, m.booked_at AS at, m.kind AS what, m.stream_id, m.usd_cents
    FROM manual_adjustments m WHERE m.customer_id = :customer_id AND m.adjustment_id = :adjustment_id
"""
_QUERIES = {
    LineKind.USAGE: f"{_CHARGES} UNION ALL {_OWN_ADJUSTMENTS}",
    LineKind.LATE_USAGE: f"{_CHARGES} UNION ALL {_OWN_ADJUSTMENTS}",
    LineKind.ADJUSTMENT: _LATER_ADJUSTMENTS,
    LineKind.CREDIT: _BY_HAND,
    LineKind.CORRECTION: _BY_HAND,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEntries:
    """The first of a line's entries, by time, and what all of them come to."""

    entries: Sequence[Entry]
    count: int
    usd_cents: Decimal


def line_entries(
    connection: Connection, *, closed: ClosedPeriod, line: InvoiceLine, limit: int
) -> LineEntries | None:
    """Up to `limit` entries of a line; None for what is carried in, which an invoice before has."""
    query = _QUERIES.get(line.sum.kind)
    if query is None:
        return None
    parameters: dict[str, Any] = {
        "customer_id": closed.customer_id,
        "period": str(closed.period),
        "starts_at": closed.starts_at,
        "time_zone": closed.time_zone,
        "provider": line.sum.provider,
        "model": line.sum.model,
        "month": line.sum.month,
        "adjustment_id": line.sum.adjustment_id,
        "limit": limit,
    }
    page = text(f"SELECT * FROM ({query}) AS entries ORDER BY at, id LIMIT :limit")
    sums = text(f"SELECT count(*) AS count, coalesce(sum(usd_cents), 0) AS usd_cents FROM ({query}) AS entries")
    found = connection.execute(sums, parameters).one()
    return LineEntries(
        entries=[Entry(**row._mapping) for row in connection.execute(page, parameters)],
        count=found._mapping["count"],
        usd_cents=found.usd_cents,
    )

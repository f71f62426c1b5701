"""Invariants of the rates beneath invoice lines: they are what the bills of the month say, and sum to their lines.

The queries that close a month add up every change of a bill. The audit compares the bill that a stream had at the
end of the month with the one that it had before, so that a fault in either is found.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from metering.audit.difference import Check, Difference, rows_that_differ, unequal
from metering.months.invoice import LineKind, line_key_of

_BATCH = 500

_MONTHS = text(
    """
    SELECT i.customer_id, i.period, i.invoice_id, i.number
    FROM invoices i JOIN billing_periods p ON p.customer_id = i.customer_id AND p.period = i.period
    WHERE p.ends_at > :begin AND p.starts_at < :end AND i.rates_kept
      AND (i.customer_id, i.period) > (:customer_id, :period)
    ORDER BY i.customer_id, i.period LIMIT :limit
    """
)
_THESE = """
    unnest(CAST(:customer_ids AS text[]), CAST(:periods AS text[])) AS these (customer_id, period)
    JOIN billing_periods m USING (customer_id, period)
"""
_STORED = text(
    f"""
    SELECT i.customer_id, i.period, r.line_key, r.kind, r.usd_per_million, r.usd_per_hour, r.quantity, r.usd_cents
    FROM {_THESE} JOIN invoices i USING (customer_id, period)
    JOIN invoice_line_rates r ON r.customer_id = i.customer_id AND r.invoice_id = i.invoice_id
    """
)
_LATE = "c.ended_at < m.starts_at"
# The bill of each stream of the month at its end; and of each stream of an earlier month that was adjusted in it,
# the bill at its end, less the one before the first of these adjustments. A bill without lines has one row,
# without a usage kind.
_LINES_OF_BILLS = f"""
    WITH adjusted AS (
        SELECT m.customer_id, m.period, a.stream_id, min(a.revision) AS first, max(a.revision) AS last
        FROM {_THESE} JOIN adjustments a ON a.customer_id = m.customer_id AND a.period = m.period GROUP BY 1, 2, 3
    ), revised AS (
        SELECT d.customer_id, d.period, d.stream_id, d.first, a.lines, a.taken_back
        FROM adjusted d JOIN adjustments a
            ON a.customer_id = d.customer_id AND a.stream_id = d.stream_id AND a.revision = d.last
    )
    SELECT m.customer_id, m.period, CASE WHEN {_LATE} THEN 'late_usage' ELSE 'usage' END AS line_kind,
           CASE WHEN {_LATE} THEN to_char(c.ended_at AT TIME ZONE known_time_zone(m.time_zone), 'YYYY-MM') END
           AS month, c.provider, c.model, 1 AS sign, line.*
    FROM {_THESE} JOIN charges c ON c.customer_id = m.customer_id AND c.period = m.period
    LEFT JOIN revised r ON r.customer_id = c.customer_id AND r.period = c.period AND r.stream_id = c.stream_id
    LEFT JOIN LATERAL bill_lines(CASE WHEN r.stream_id IS NULL THEN c.lines ELSE r.lines END) AS line ON true
    WHERE line.kind IS NOT NULL OR NOT coalesce(r.taken_back, false)
    UNION ALL
    SELECT r.customer_id, r.period, 'adjustment', c.period, c.provider, c.model, bill.sign, line.*
    FROM revised r JOIN charges c ON c.customer_id = r.customer_id AND c.stream_id = r.stream_id
    LEFT JOIN adjustments b
        ON b.customer_id = c.customer_id AND b.stream_id = c.stream_id AND b.revision = r.first - 1
    CROSS JOIN (VALUES (1), (-1)) AS bill (sign)
    CROSS JOIN LATERAL bill_lines(
        CASE WHEN bill.sign = 1 THEN r.lines WHEN r.first = 1 THEN c.lines ELSE b.lines END) AS line
    WHERE c.period <> r.period
"""
_DERIVED = text(
    f"""
    SELECT customer_id, period, line_kind, month, provider, model, coalesce(kind, 'uncharged') AS kind,
           CASE WHEN kind <> 'upstream_cost' THEN usd_per_million END AS usd_per_million, usd_per_hour,
           sum(sign * coalesce(quantity, 1)) AS quantity, sum(sign * coalesce(usd_cents, 0)) AS usd_cents
    FROM ({_LINES_OF_BILLS}) AS lines
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    HAVING sum(sign * coalesce(quantity, 1)) <> 0 OR sum(sign * coalesce(usd_cents, 0)) <> 0
    """
)
# A line and a rate: its key, the kind, USD per million, USD per hour; and a quantity and exact cents.
_Rate = tuple[str, str, Decimal | None, Decimal | None]
_Rates = Mapping[_Rate, tuple[Decimal, Decimal]]


def check_line_rates(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """The rates beneath the lines of an invoice are those of the bills that it sums."""
    # Else all lines of all bills are sorted on disk.
    connection.execute(text("SET LOCAL enable_sort = off"))
    after = ("", "")
    while True:
        parameters = {"begin": begin, "end": end, "customer_id": after[0], "period": after[1], "limit": _BATCH}
        rows = connection.execute(_MONTHS, parameters).all()
        if not rows:
            connection.execute(text("SET LOCAL enable_sort = DEFAULT"))
            return
        these = {"customer_ids": [row.customer_id for row in rows], "periods": [row.period for row in rows]}
        stored = _by_month(connection.execute(_STORED, these), lambda row: row.line_key)
        derived = _by_month(connection.execute(_DERIVED, these), _line_key)
        lines = _lines_of(connection, these)
        for row in rows:
            month = (row.customer_id, row.period)
            yield from _compare(row.number, stored.get(month, {}), derived.get(month, {}), lines.get(month, set()))
        after = (rows[-1].customer_id, rows[-1].period)


_LINES = text(
    f"""
    SELECT i.customer_id, i.period, l.line_key FROM {_THESE} JOIN invoices i USING (customer_id, period)
    JOIN invoice_lines l ON l.customer_id = i.customer_id AND l.invoice_id = i.invoice_id
    """
)


def _lines_of(connection: Connection, these: Mapping[str, object]) -> Mapping[tuple[str, str], set[str]]:
    """The lines of invoices: what adjusts a line to 0 has none."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in connection.execute(_LINES, these):
        found.setdefault((row.customer_id, row.period), set()).add(row.line_key)
    return found


def _by_month(rows: Any, line_key: Any) -> Mapping[tuple[str, str], dict[_Rate, tuple[Decimal, Decimal]]]:
    found: dict[tuple[str, str], dict[_Rate, tuple[Decimal, Decimal]]] = {}
    for row in rows:
        rate = (line_key(row), row.kind, row.usd_per_million, row.usd_per_hour)
        found.setdefault((row.customer_id, row.period), {})[rate] = (row.quantity, row.usd_cents)
    return found


def _line_key(row: Any) -> str:
    return line_key_of(
        kind=LineKind(row.line_kind), month=row.month, provider=row.provider, model=row.model, adjustment_id=None
    )


def _compare(number: str, stored: _Rates, derived: _Rates, lines: set[str]) -> Iterator[Difference]:
    left = dict(stored)
    for rate, sums in derived.items():
        if rate[0] not in lines:
            continue
        was = left.pop(rate, None)
        if was is None:
            yield Difference("invoice_line_rates", _named(number, rate), "the rate is missing")
            continue
        claims = zip(("quantity", "usd_cents"), was, sums, strict=True)
        yield from unequal("invoice_line_rates", _named(number, rate), claims)
    for rate in left:
        yield Difference("invoice_line_rates", _named(number, rate), "no bill has this rate")


def _named(number: str, rate: _Rate) -> str:
    line_key, kind, usd_per_million, usd_per_hour = rate
    price = usd_per_million if usd_per_hour is None else usd_per_hour
    return f"{number} {line_key} {kind}{'' if price is None else f' {price}'}"


def check_rate_sums(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """The rates beneath a line sum to it exactly."""
    query = """
        SELECT i.number || ' ' || l.line_key AS key, format('line %s, rates %s', l.usd_cents, r.usd_cents) AS says
        FROM invoices i JOIN billing_periods p ON p.customer_id = i.customer_id AND p.period = i.period
        JOIN invoice_lines l ON l.customer_id = i.customer_id AND l.invoice_id = i.invoice_id
        CROSS JOIN LATERAL (SELECT coalesce(sum(r.usd_cents), 0) AS usd_cents FROM invoice_line_rates r
                            WHERE r.customer_id = l.customer_id AND r.invoice_id = l.invoice_id
                              AND r.line_key = l.line_key) AS r
        WHERE p.ends_at > :begin AND p.starts_at < :end AND i.rates_kept
          AND l.kind IN ('usage', 'late_usage', 'adjustment') AND l.usd_cents <> r.usd_cents
    """
    return rows_that_differ(connection, "invoice_line_rates", query, begin, end)


RATE_CHECKS: tuple[Check, ...] = (check_line_rates, check_rate_sums)

"""Invariants of closed months: sealed, summed and rounded as their entries say, numbered without a gap.

The entries are collected by a query of the audit's own, so that a fault in those that close a month is found.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from metering.audit.difference import Check, Difference, field_claims, rows_that_differ, unequal
from metering.core.period import BillingPeriod
from metering.events.usage import COUNTERS
from metering.months.invoice import (
    ClosedPeriod,
    Invoice,
    InvoiceLine,
    LineSum,
    Previous,
    in_order,
    make_invoice,
)

_BATCH = 500
# A customer and a period, such as ("acme", "2026-11").
_MonthKey = tuple[str, str]

_MONTHS = text(
    """
    SELECT p.*, i.invoice_id, i.number, i.previous_invoice_id, i.exact_usd_cents, i.carried_in_usd_cents,
           i.billed_cents, i.remainder_usd_cents, i.minimum_cents, i.prepaid_usd_cents,
           before.invoice_id AS before_id,
           before.remainder_usd_cents AS before_remainder, before.period AS before_period
    FROM billing_periods p LEFT JOIN invoices i ON i.customer_id = p.customer_id AND i.period = p.period
    LEFT JOIN LATERAL (SELECT b.invoice_id, b.remainder_usd_cents, b.period FROM invoices b
                       WHERE b.customer_id = p.customer_id AND b.period < p.period
                       ORDER BY b.period DESC LIMIT 1) AS before ON true
    WHERE p.ends_at > :begin AND p.starts_at < :end AND (p.customer_id, p.period) > (:customer_id, :period)
    ORDER BY p.customer_id, p.period LIMIT :limit
    """
)
_THESE = """
    unnest(CAST(:customer_ids AS text[]), CAST(:periods AS text[])) AS these (customer_id, period)
    JOIN billing_periods m USING (customer_id, period)
"""
_STORED_LINES = text(
    f"""
    SELECT l.*, i.period FROM {_THESE} JOIN invoices i USING (customer_id, period)
    JOIN invoice_lines l ON l.customer_id = i.customer_id AND l.invoice_id = i.invoice_id
    """
)


def _changed(name: str) -> str:
    """What an adjustment changes of a counter of the bill before it."""
    before = f"CASE WHEN a.revision = 1 THEN c.{name} ELSE b.{name} END"
    return f"coalesce(a.{name}, 0) - coalesce({before}, 0) AS {name}"


_KIND = "CASE WHEN c.ended_at < m.starts_at THEN 'late_usage' ELSE 'usage' END"
_LATE_MONTH = """
    CASE WHEN c.ended_at < m.starts_at
         THEN to_char(c.ended_at AT TIME ZONE known_time_zone(m.time_zone), 'YYYY-MM') END
"""
# Every entry of a month, with the line that it belongs to. An adjustment of a charge of the same month belongs to
# the charge's line, with its difference to the bill before it; one of an earlier month has a line of its own.
_ENTRIES = f"""
    SELECT m.customer_id, m.period, c.charge_id AS id, c.ended_at AS at,
           {_KIND} AS kind, {_LATE_MONTH} AS month, c.provider, c.model, NULL AS adjustment_id, NULL AS reason,
           c.ended_at AS line_at, 1 AS stream_count,
           {", ".join(f"c.{name}" for name in COUNTERS)}, c.usd_cents
    FROM {_THESE} JOIN charges c ON c.customer_id = m.customer_id AND c.period = m.period
    UNION ALL
    SELECT m.customer_id, m.period, a.adjustment_id, a.booked_at, {_KIND}, {_LATE_MONTH}, c.provider, c.model,
           NULL, NULL, c.ended_at,
           CAST(NOT a.taken_back AS int) - CAST(a.revision = 1 OR NOT b.taken_back AS int),
           {", ".join(_changed(name) for name in COUNTERS)}, a.usd_cents
    FROM {_THESE} JOIN adjustments a ON a.customer_id = m.customer_id AND a.period = m.period
    JOIN charges c ON c.customer_id = a.customer_id AND c.stream_id = a.stream_id AND c.period = a.period
    LEFT JOIN adjustments b
        ON b.customer_id = a.customer_id AND b.stream_id = a.stream_id AND b.revision = a.revision - 1
    UNION ALL
    SELECT m.customer_id, m.period, a.adjustment_id, a.booked_at, 'adjustment', c.period, c.provider, c.model,
           NULL, NULL, c.ended_at,
           CAST(row_number() OVER (PARTITION BY a.customer_id, a.period, a.stream_id) = 1 AS int),
           {", ".join("0" for _ in COUNTERS)}, a.usd_cents
    FROM {_THESE} JOIN adjustments a ON a.customer_id = m.customer_id AND a.period = m.period
    JOIN charges c ON c.customer_id = a.customer_id AND c.stream_id = a.stream_id AND c.period <> a.period
    UNION ALL
    SELECT m.customer_id, m.period, a.adjustment_id, a.booked_at, a.kind, NULL, NULL, NULL, a.adjustment_id,
           a.reason, a.booked_at, 0, {", ".join("0" for _ in COUNTERS)}, a.usd_cents
    FROM {_THESE} JOIN manual_adjustments a ON a.customer_id = m.customer_id AND a.period = m.period
"""
_USAGE = ", ".join(f"'{name}', nullif(sum({name}), 0)" for name in COUNTERS)
_DERIVED_LINES = text(
    f"""
    SELECT customer_id, e.period, kind, month, provider, model, adjustment_id, reason,
           CASE kind WHEN 'usage' THEN p.starts_at ELSE min(line_at) END AS starts_at,
           CASE kind WHEN 'usage' THEN p.ends_at ELSE max(line_at) END AS ends_at,
           sum(stream_count) AS stream_count, json_strip_nulls(json_build_object({_USAGE})) AS usage,
           sum(usd_cents) AS usd_cents
    FROM ({_ENTRIES}) AS e JOIN billing_periods p USING (customer_id, period)
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, p.starts_at, p.ends_at
    HAVING kind <> 'adjustment' OR sum(usd_cents) <> 0
    """
)
# What grants paid of a month, by the entries of the grants.
_PREPAID_LINES = text(
    f"""
    SELECT m.customer_id, m.period, 'prepaid' AS kind, NULL AS month, NULL AS provider, NULL AS model,
           NULL AS adjustment_id, NULL AS reason, m.starts_at, m.ends_at, 0 AS stream_count,
           CAST('{{}}' AS json) AS usage, sum(g.usd_cents) AS usd_cents
    FROM {_THESE} JOIN grant_entries g ON g.customer_id = m.customer_id AND g.entry_period = m.period
    GROUP BY m.customer_id, m.period, m.starts_at, m.ends_at HAVING sum(g.usd_cents) <> 0
    """
)
# A seal hashes the lines `day hash` of the UTC days with entries; a day's hash is over the lines `id amount`.
_SEALS = text(
    f"""
    SELECT customer_id, period, sum(entry_count) AS entry_count,
           sha256(convert_to(string_agg(day || ' ' || encode(hash, 'hex'), E'\\n' ORDER BY day), 'UTF8')) AS seal
    FROM (SELECT customer_id, period, CAST(at AT TIME ZONE 'UTC' AS date) AS day, count(*) AS entry_count,
                 sha256(convert_to(string_agg(id || ' ' || trim_scale(usd_cents), E'\\n' ORDER BY id COLLATE "C"),
                                   'UTF8')) AS hash
          FROM ({_ENTRIES}) AS entries GROUP BY 1, 2, 3) AS days
    GROUP BY 1, 2
    """
)
_NO_ENTRIES = (0, sha256(b"").digest())


def check_invoices(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A closed month has the entries that it was sealed with, and its invoice is derived from them."""
    after = ("", "")
    while True:
        parameters = {"begin": begin, "end": end, "customer_id": after[0], "period": after[1], "limit": _BATCH}
        rows = connection.execute(_MONTHS, parameters).all()
        if not rows:
            return
        yield from _compare_months(connection, rows)
        after = (rows[-1].customer_id, rows[-1].period)


def _compare_months(connection: Connection, rows: Sequence[Any]) -> Iterator[Difference]:
    these = {"customer_ids": [row.customer_id for row in rows], "periods": [row.period for row in rows]}
    seals = {
        (row.customer_id, row.period): (int(row.entry_count), row.seal)
        for row in connection.execute(_SEALS, these)
    }
    stored = _by_month(connection.execute(_STORED_LINES, these))
    derived = _by_month([*connection.execute(_DERIVED_LINES, these), *connection.execute(_PREPAID_LINES, these)])
    for row in rows:
        month = (row.customer_id, row.period)
        key = f"{row.customer_id} {row.period}"
        entry_count, seal = seals.get(month, _NO_ENTRIES)
        claims = [("entry_count", row.entry_count, entry_count), ("seal", bytes(row.seal).hex(), seal.hex())]
        yield from unequal("billing_periods", key, claims)
        if entry_count and row.invoice_id is None:
            yield Difference("invoices", key, "there is no invoice")
        elif entry_count:
            yield from _compare_invoices(row, stored.get(month, ()), derived.get(month, ()))


def _by_month(rows: Any) -> Mapping[_MonthKey, Sequence[Any]]:
    found: dict[_MonthKey, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.customer_id, row.period].append(row)
    return found


def _compare_invoices(row: Any, stored_lines: Sequence[Any], derived_lines: Sequence[Any]) -> Iterator[Difference]:
    stored = _stored_invoice(row, stored_lines)
    derived = make_invoice(
        closed=_closed_period(row),
        sums=[_line_sum(line) for line in derived_lines],
        previous=_previous(row),
        minimum_cents=stored.minimum_cents,
    )
    lines = {line.sum.line_key: line for line in stored.lines}
    for line in derived.lines:
        was = lines.pop(line.sum.line_key, None)
        key = f"{row.number} {line.sum.line_key}"
        if was is None:
            yield Difference("invoice_lines", key, "the line is missing")
        else:
            yield from unequal("invoice_lines", key, field_claims(was, line))
    for line_key in lines:
        yield Difference("invoice_lines", f"{row.number} {line_key}", "no entry belongs to this line")
    yield from unequal("invoices", row.number, (c for c in field_claims(stored, derived) if c[0] != "lines"))


def _stored_invoice(row: Any, lines: Sequence[Any]) -> Invoice:
    return Invoice(
        invoice_id=row.invoice_id,
        customer_id=row.customer_id,
        period=BillingPeriod.parse(row.period),
        previous_invoice_id=row.previous_invoice_id,
        exact_usd_cents=row.exact_usd_cents,
        carried_in_usd_cents=row.carried_in_usd_cents,
        billed_cents=row.billed_cents,
        remainder_usd_cents=row.remainder_usd_cents,
        minimum_cents=row.minimum_cents,
        prepaid_usd_cents=row.prepaid_usd_cents,
        lines=tuple(
            in_order([InvoiceLine(sum=_line_sum(line), billed_cents=line.billed_cents) for line in lines])
        ),
    )


def _line_sum(row: Any) -> LineSum:
    return msgspec.convert(dict(row._mapping), LineSum)


def _closed_period(row: Any) -> ClosedPeriod:
    names = ("customer_id", "time_zone", "starts_at", "ends_at", "closed_at", "closed_by", "force_reason")
    return ClosedPeriod(
        **{name: getattr(row, name) for name in names},
        period=BillingPeriod.parse(row.period),
        entry_count=row.entry_count,
        seal=bytes(row.seal),
    )


def _previous(row: Any) -> Previous | None:
    if row.before_id is None:
        return None
    return Previous(
        invoice_id=row.before_id,
        remainder_usd_cents=row.before_remainder,
        period=BillingPeriod.parse(row.before_period),
    )


def check_invoice_sums(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """An invoice's amount is the sum of its entries and of its lines, exactly and in whole cents."""
    query = """
        SELECT i.number AS key, format('exact %s, entries %s, lines %s; billed %s, lines %s',
                   i.exact_usd_cents, e.usd_cents,
                   l.usd_cents - i.carried_in_usd_cents + i.prepaid_usd_cents, i.billed_cents,
                   l.billed_cents) AS says
        FROM invoices i
        JOIN billing_periods p ON p.customer_id = i.customer_id AND p.period = i.period
        CROSS JOIN LATERAL (SELECT coalesce(sum(usd_cents), 0) AS usd_cents,
                                   coalesce(sum(billed_cents), 0) AS billed_cents
                            FROM invoice_lines l
                            WHERE l.customer_id = i.customer_id AND l.invoice_id = i.invoice_id) AS l
        CROSS JOIN LATERAL (SELECT coalesce(sum(usd_cents), 0) AS usd_cents FROM (
            SELECT usd_cents FROM charges c WHERE c.customer_id = i.customer_id AND c.period = i.period
            UNION ALL SELECT usd_cents FROM adjustments a
            WHERE a.customer_id = i.customer_id AND a.period = i.period
            UNION ALL SELECT usd_cents FROM manual_adjustments m
            WHERE m.customer_id = i.customer_id AND m.period = i.period) AS entries) AS e
        WHERE p.ends_at > :begin AND p.starts_at < :end
          AND (i.exact_usd_cents <> e.usd_cents
               OR l.usd_cents <> i.exact_usd_cents + i.carried_in_usd_cents - i.prepaid_usd_cents
               OR l.billed_cents <> i.billed_cents)
    """
    return rows_that_differ(connection, "invoices", query, begin, end)


def check_invoice_numbers(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """The invoices of a month are numbered from 1 without a gap, and each has a push."""
    query = """
        SELECT number AS key, format('number: stored %s, derived %s', number, derived) AS says
        FROM (SELECT number, period || '-' || to_char(row_number() OVER (PARTITION BY period ORDER BY number),
                                                      'FM000000') AS derived FROM invoices) AS numbered
        WHERE number <> derived
        UNION ALL
        SELECT i.number, 'the invoice has no push' FROM invoices i WHERE NOT EXISTS (
            SELECT FROM invoice_pushes p WHERE p.customer_id = i.customer_id AND p.invoice_id = i.invoice_id)
    """
    return rows_that_differ(connection, "invoices", query, begin, end)


def check_closed_through(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A customer is closed through its last closed month, or a later one while a run is closing that month."""
    query = """
        SELECT c.customer_id AS key, format('closed_through: stored %s, derived %s', c.closed_through,
                                            p.period) AS says
        FROM customers c JOIN (SELECT customer_id, max(period) AS period FROM billing_periods GROUP BY 1) AS p
             ON p.customer_id = c.customer_id
        WHERE c.closed_through < p.period
    """
    return rows_that_differ(connection, "customers", query, begin, end)


INVOICE_CHECKS: tuple[Check, ...] = (
    check_invoices,
    check_invoice_sums,
    check_invoice_numbers,
    check_closed_through,
)

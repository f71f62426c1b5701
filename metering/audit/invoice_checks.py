"""Invariants of closed months: sealed, summed and rounded as their entries say, numbered without a gap."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, text

from metering.audit.checks import Check, broken
from metering.audit.difference import Difference, field_claims, unequal
from metering.core.money import ZERO
from metering.core.period import BillingPeriod
from metering.months.invoice import Invoice, Previous, make_invoice
from metering.months.queries.entries import MonthKey, OpenMonth, Seal, line_sums, seals
from metering.months.queries.invoices import get_invoices
from metering.months.store.invoices import StoredInvoice

_BATCH = 500
_EMPTY = Seal(entry_count=0, usd_cents=ZERO, digest=sha256(b"").digest())

_MONTHS = text(
    """
    SELECT p.customer_id, p.period, p.time_zone, p.starts_at, p.ends_at, p.entry_count, p.seal, i.invoice_id,
           before.invoice_id AS before_id, before.remainder_usd_cents AS before_remainder,
           before.period AS before_period
    FROM billing_periods p LEFT JOIN invoices i ON i.customer_id = p.customer_id AND i.period = p.period
    LEFT JOIN LATERAL (SELECT b.invoice_id, b.remainder_usd_cents, b.period FROM invoices b
                       WHERE b.customer_id = p.customer_id AND b.period < p.period
                       ORDER BY b.period DESC LIMIT 1) AS before ON true
    WHERE p.ends_at > :begin AND p.starts_at < :end AND (p.customer_id, p.period) > (:customer_id, :period)
    ORDER BY p.customer_id, p.period LIMIT :limit
    """
)


def check_invoices(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A closed month has the entries that it was sealed with, and its invoice is what they make."""
    after = ("", "")
    while True:
        parameters = {"begin": begin, "end": end, "customer_id": after[0], "period": after[1], "limit": _BATCH}
        rows = connection.execute(_MONTHS, parameters).all()
        if not rows:
            return
        yield from _compare(connection, rows)
        after = (rows[-1].customer_id, rows[-1].period)


def _compare(connection: Connection, rows: Sequence[Any]) -> Iterator[Difference]:
    months = [_month(row) for row in rows]
    sums, sealed = line_sums(connection, months), seals(connection, months)
    stored = get_invoices(connection, [(row.customer_id, row.invoice_id) for row in rows if row.invoice_id])
    for row, month in zip(rows, months, strict=True):
        key: MonthKey = (month.customer_id, month.period)
        seal = sealed.get(key, _EMPTY)
        yield from unequal(
            "billing_periods",
            f"{month.customer_id} {month.period}",
            [
                ("entry_count", row.entry_count, seal.entry_count),
                ("seal", bytes(row.seal).hex(), seal.digest.hex()),
            ],
        )
        if not seal.entry_count:
            continue
        invoice = stored.get(row.invoice_id or "")
        if invoice is None:
            yield Difference("invoices", f"{month.customer_id} {month.period}", "there is no invoice")
            continue
        derived = make_invoice(
            closed=invoice.closed,
            sums=sums.get(key, ()),
            previous=_previous(row),
            minimum_cents=invoice.invoice.minimum_cents,
        )
        yield from _unequal_invoices(invoice, derived)


def _unequal_invoices(stored: StoredInvoice, derived: Invoice) -> Iterator[Difference]:
    invoice = stored.invoice
    if invoice == derived:
        return
    lines = {line.sum.line_key: line for line in invoice.lines}
    for line in derived.lines:
        was = lines.pop(line.sum.line_key, None)
        key = f"{stored.number} {line.sum.line_key}"
        if was is None:
            yield Difference("invoice_lines", key, "the line is not there")
        else:
            yield from unequal("invoice_lines", key, field_claims(was, line))
    for line_key in lines:
        yield Difference("invoice_lines", f"{stored.number} {line_key}", "nothing that is booked makes this line")
    claims = [claim for claim in field_claims(invoice, derived) if claim[0] != "lines"]
    yield from unequal("invoices", stored.number, claims)


def _month(row: Any) -> OpenMonth:
    names = ("customer_id", "period", "time_zone", "starts_at", "ends_at")
    return OpenMonth(**{name: getattr(row, name) for name in names})


def _previous(row: Any) -> Previous | None:
    if row.before_id is None:
        return None
    return Previous(
        invoice_id=row.before_id,
        remainder_usd_cents=row.before_remainder,
        period=BillingPeriod.parse(row.before_period),
    )


def check_invoice_sums(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """An invoice's lines, and the entries of its month, sum to what it says; its lines' cents to what it bills."""
    query = """
        SELECT i.number AS key, format('exact %s, entries %s, lines %s; billed %s, lines %s',
                   i.exact_usd_cents, e.usd_cents, l.usd_cents - i.carried_in_usd_cents, i.billed_cents,
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
               OR l.usd_cents <> i.exact_usd_cents + i.carried_in_usd_cents
               OR l.billed_cents <> i.billed_cents)
    """
    return broken(connection, "invoices", query, begin, end)


def check_invoice_numbers(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A month's invoices are numbered from 1 without a gap, and each has a push."""
    query = """
        SELECT number AS key, format('number: stored %s, derived %s', number, derived) AS says
        FROM (SELECT number, period || '-' || to_char(row_number() OVER (PARTITION BY period ORDER BY number),
                                                      'FM000000') AS derived FROM invoices) AS numbered
        WHERE number <> derived
        UNION ALL
        SELECT i.number, 'it has no push' FROM invoices i WHERE NOT EXISTS (
            SELECT FROM invoice_pushes p WHERE p.customer_id = i.customer_id AND p.invoice_id = i.invoice_id)
    """
    return broken(connection, "invoices", query, begin, end)


def check_closed_through(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A customer is closed through its last closed month; later only while somebody is about to invoice it."""
    query = """
        SELECT c.customer_id AS key, format('closed_through: stored %s, derived %s', c.closed_through,
                                            p.period) AS says
        FROM customers c CROSS JOIN LATERAL (
            SELECT coalesce(max(period), '') AS period FROM billing_periods p
            WHERE p.customer_id = c.customer_id) AS p
        WHERE c.closed_through < p.period
    """
    return broken(connection, "customers", query, begin, end)


INVOICE_CHECKS: tuple[Check, ...] = (
    check_invoices,
    check_invoice_sums,
    check_invoice_numbers,
    check_closed_through,
)

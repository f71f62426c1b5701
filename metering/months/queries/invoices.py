"""Invoices as they were made, page by page, and what a month's came to."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from metering.months.store.invoice_rows import INVOICE_ROW, LINE_ROW, StoredInvoice, stored_invoice

_FROM = "FROM invoices i JOIN billing_periods p ON p.customer_id = i.customer_id AND p.period = i.period"


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceFilter:
    """Which invoices; None leaves a filter out."""

    customer_id: str | None = None
    period: str | None = None
    state: str | None = None


_PAGE = text(
    f"""
    SELECT {INVOICE_ROW} {_FROM}
    JOIN invoice_pushes s ON s.customer_id = i.customer_id AND s.invoice_id = i.invoice_id
    WHERE (CAST(:customer_id AS text) IS NULL OR i.customer_id = :customer_id)
      AND (CAST(:period AS text) IS NULL OR i.period = :period)
      AND (CAST(:state AS text) IS NULL OR s.state = :state)
      AND (CAST(:before AS text) IS NULL OR (i.period, i.customer_id) < (:before, :before_customer))
    ORDER BY i.period DESC, i.customer_id DESC LIMIT :limit
    """
)
_THESE = text(
    f"""
    SELECT {INVOICE_ROW} {_FROM}
    JOIN unnest(CAST(:customer_ids AS text[]), CAST(:invoice_ids AS text[])) AS wanted (customer_id, invoice_id)
        ON wanted.customer_id = i.customer_id AND wanted.invoice_id = i.invoice_id
    """
)
_BY_ID = text(f"SELECT {INVOICE_ROW} {_FROM} WHERE i.invoice_id = :invoice_id OR i.number = :invoice_id LIMIT 1")
_LINES = text(
    f"""
    SELECT {LINE_ROW} FROM unnest(CAST(:customer_ids AS text[]), CAST(:invoice_ids AS text[]))
        AS wanted (customer_id, invoice_id)
    JOIN invoice_lines l USING (customer_id, invoice_id)
    """
)


def list_invoices(
    connection: Connection, *, where: InvoiceFilter, before: tuple[str, str] | None, limit: int
) -> Sequence[StoredInvoice]:
    """Up to `limit` invoices, the newest month first, behind the position (period, customer_id)."""
    period, customer_id = before or (None, None)
    parameters = {
        "customer_id": where.customer_id,
        "period": where.period,
        "state": where.state,
        "before": period,
        "before_customer": customer_id,
        "limit": limit,
    }
    return _with_lines(connection, connection.execute(_PAGE, parameters).all())


def get_invoice(connection: Connection, *, customer_id: str, invoice_id: str) -> StoredInvoice | None:
    """One of a customer's invoices, or None."""
    return get_invoices(connection, [(customer_id, invoice_id)]).get(invoice_id)


def get_invoices(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[str, StoredInvoice]:
    """These (customer_id, invoice_id), by the latter."""
    parameters = {
        "customer_ids": [customer_id for customer_id, _ in keys],
        "invoice_ids": [invoice_id for _, invoice_id in keys],
    }
    rows = connection.execute(_THESE, parameters).all()
    return {each.invoice.invoice_id: each for each in _with_lines(connection, rows)}


def find_invoice(connection: Connection, *, invoice_id: str) -> StoredInvoice | None:
    """The invoice with this id or number, or None."""
    rows = connection.execute(_BY_ID, {"invoice_id": invoice_id}).all()
    return next(iter(_with_lines(connection, rows)), None)


def invoice_numbers(connection: Connection, *, customer_id: str, periods: Collection[str]) -> Mapping[str, str]:
    """The numbers of a customer's invoices for these months, by month; a month without one is left out."""
    query = text("SELECT period, number FROM invoices WHERE customer_id = :customer_id AND period = ANY(:periods)")
    rows = connection.execute(query, {"customer_id": customer_id, "periods": list(periods)})
    return {row.period: row.number for row in rows}


def _with_lines(connection: Connection, rows: Sequence[Any]) -> Sequence[StoredInvoice]:
    lines: dict[str, list[Any]] = defaultdict(list)
    keys = {
        "customer_ids": [row.customer_id for row in rows],
        "invoice_ids": [row.invoice_id for row in rows],
    }
    for line in connection.execute(_LINES, keys) if rows else ():
        lines[line.invoice_id].append(line)
    return [stored_invoice(row, lines[row.invoice_id]) for row in rows]

"""Invoices as they were made, page by page, and what a month's came to."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from metering.records.invoices import INVOICE_ROW, LINE_ROW, StoredInvoice, stored_invoice

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
_ONE = text(f"SELECT {INVOICE_ROW} {_FROM} WHERE i.customer_id = :customer_id AND i.invoice_id = :invoice_id")
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
    rows = connection.execute(_ONE, {"customer_id": customer_id, "invoice_id": invoice_id}).all()
    return next(iter(_with_lines(connection, rows)), None)


def find_invoice(connection: Connection, *, invoice_id: str) -> StoredInvoice | None:
    """The invoice with this id or number, or None."""
    rows = connection.execute(_BY_ID, {"invoice_id": invoice_id}).all()
    return next(iter(_with_lines(connection, rows)), None)


def _with_lines(connection: Connection, rows: Sequence[Any]) -> Sequence[StoredInvoice]:
    lines: dict[str, list[Any]] = defaultdict(list)
    keys = {
        "customer_ids": [row.customer_id for row in rows],
        "invoice_ids": [row.invoice_id for row in rows],
    }
    for line in connection.execute(_LINES, keys) if rows else ():
        lines[line.invoice_id].append(line)
    return [stored_invoice(row, lines[row.invoice_id]) for row in rows]

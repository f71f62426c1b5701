"""SQL that keeps the rates of invoice lines. Kept rates never change."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, text

from metering.db.rows import copy_rows
from metering.months.invoice import Invoice
from metering.months.line_rates import UNCHARGED, RatesOfLines

_COLUMNS = (
    "customer_id",
    "invoice_id",
    "line_key",
    "place",
    "kind",
    "quantity",
    "usd_per_million",
    "usd_per_hour",
    "usd_cents",
)
_COPY = f"COPY invoice_line_rates ({', '.join(_COLUMNS)}) FROM STDIN"


def add_line_rates(connection: Connection, rates: Iterable[tuple[Invoice, RatesOfLines]]) -> None:
    """Store the rates of the lines of invoices, whose rows exist."""
    copy_rows(connection, _COPY, (row for invoice, of_lines in rates for row in _rows(invoice, of_lines)))


def _rows(invoice: Invoice, rates: RatesOfLines) -> Iterable[tuple[Any, ...]]:
    for line in invoice.lines:
        key = line.sum.line_key
        for place, rate in enumerate(rates.get(key, ()), start=1):
            yield (
                invoice.customer_id,
                invoice.invoice_id,
                key,
                place,
                UNCHARGED if rate.kind is None else rate.kind.value,
                rate.quantity,
                rate.usd_per_million,
                rate.usd_per_hour,
                rate.usd_cents,
            )


_WITHOUT = text(
    """
    UPDATE invoices i SET rates_kept = false
    FROM unnest(CAST(:customer_ids AS text[]), CAST(:invoice_ids AS text[])) AS these (customer_id, invoice_id)
    WHERE i.customer_id = these.customer_id AND i.invoice_id = these.invoice_id
    """
)


def record_without_rates(connection: Connection, keys: Sequence[tuple[str, str]]) -> None:
    """Record that the rates of these (customer_id, invoice_id) are not kept."""
    customer_ids, invoice_ids = [each[0] for each in keys], [each[1] for each in keys]
    connection.execute(_WITHOUT, {"customer_ids": customer_ids, "invoice_ids": invoice_ids})


_CLAIM = text(
    """
    UPDATE invoices SET rates_kept = true WHERE (customer_id, invoice_id) IN (
        SELECT customer_id, invoice_id FROM invoices
        WHERE customer_id = :customer_id AND invoice_id = :invoice_id AND NOT rates_kept
        FOR NO KEY UPDATE SKIP LOCKED)
    """
)


def claim_without_rates(connection: Connection, *, customer_id: str, invoice_id: str) -> bool:
    """Record that an invoice's rates are kept, for the transaction that adds them.

    False if they are kept already, or if another process is adding them.
    """
    return connection.execute(_CLAIM, {"customer_id": customer_id, "invoice_id": invoice_id}).rowcount == 1

"""The columns of closed months, invoices and invoice lines, and how their rows become records."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from metering.core.period import BillingPeriod
from metering.events.usage import Usage
from metering.months.invoice import ClosedPeriod, Invoice, InvoiceLine, LineKind, LineSum, in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInvoice:
    """An invoice with its number and its closed month."""

    invoice: Invoice
    number: str
    closed: ClosedPeriod
    created_at: datetime


INVOICE_COLUMNS = (
    "customer_id",
    "invoice_id",
    "period",
    "number",
    "previous_invoice_id",
    "exact_usd_cents",
    "carried_in_usd_cents",
    "billed_cents",
    "remainder_usd_cents",
    "minimum_cents",
    "prepaid_usd_cents",
    "created_at",
)
LINE_COLUMNS = (
    "customer_id",
    "invoice_id",
    "line_key",
    "kind",
    "provider",
    "model",
    "month",
    "adjustment_id",
    "reason",
    "starts_at",
    "ends_at",
    "stream_count",
    "usage",
    "usd_cents",
    "billed_cents",
)
CLOSED_COLUMNS = (
    "time_zone",
    "starts_at",
    "ends_at",
    "closed_at",
    "closed_by",
    "force_reason",
    "entry_count",
    "seal",
)
# The select lists for `stored_invoice`: aliases `i` of invoices, `p` of billing_periods, `l` of invoice_lines.
INVOICE_ROW = ", ".join([*(f"i.{name}" for name in INVOICE_COLUMNS), *(f"p.{name}" for name in CLOSED_COLUMNS)])
LINE_ROW = ", ".join(f"l.{name}" if name != "usage" else "l.usage::text AS usage" for name in LINE_COLUMNS)


def stored_invoice(row: Any, lines: Iterable[Any]) -> StoredInvoice:
    """The invoice in a row of INVOICE_ROW, with its lines in rows of LINE_ROW, in any order."""
    period = BillingPeriod.parse(row.period)
    return StoredInvoice(
        invoice=Invoice(
            invoice_id=row.invoice_id,
            customer_id=row.customer_id,
            period=period,
            previous_invoice_id=row.previous_invoice_id,
            exact_usd_cents=row.exact_usd_cents,
            carried_in_usd_cents=row.carried_in_usd_cents,
            billed_cents=row.billed_cents,
            remainder_usd_cents=row.remainder_usd_cents,
            minimum_cents=row.minimum_cents,
            prepaid_usd_cents=row.prepaid_usd_cents,
            lines=tuple(in_order([_line(each) for each in lines])),
        ),
        number=row.number,
        closed=ClosedPeriod(
            customer_id=row.customer_id,
            period=period,
            **{name: getattr(row, name) for name in CLOSED_COLUMNS if name != "seal"},
            seal=bytes(row.seal),
        ),
        created_at=row.created_at,
    )


_usage_of = msgspec.json.Decoder(Usage).decode


def usage_document(usage: Usage) -> str:
    """The non-zero counters of a line as JSON."""
    return msgspec.json.encode({name: count for name, count in usage.known().items() if count}).decode()


def _line(row: Any) -> InvoiceLine:
    return InvoiceLine(
        sum=LineSum(
            kind=LineKind(row.kind),
            usd_cents=row.usd_cents,
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            provider=row.provider,
            model=row.model,
            month=row.month,
            adjustment_id=row.adjustment_id,
            reason=row.reason,
            stream_count=row.stream_count,
            usage=_usage_of(row.usage),
        ),
        billed_cents=row.billed_cents,
    )

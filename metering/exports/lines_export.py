"""The invoice-lines export: the lines of a month's invoices."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from metering.core.money import EXACT
from metering.events.usage import COUNTERS
from metering.exports.columns import Column, Kind, Row, column_index, counter_column
from metering.exports.month_rows import CENTS_SCALE, USD_SCALE, Sum, billed, month_rows, usd
from metering.exports.queries.months import ExportMonth, iterate_lines

LINE_COLUMNS = (
    Column("invoice_number", Kind.TEXT, "the invoice's number"),
    Column("invoice_id", Kind.TEXT, "the invoice's id: `GET /v1/invoices/{invoice_id}`"),
    Column("customer_id", Kind.TEXT, "the customer that pays"),
    Column("customer_name", Kind.TEXT, "the customer's current name"),
    Column("period", Kind.TEXT, "the billing month"),
    Column("period_starts_at", Kind.MOMENT, "the start of the month in the customer's time zone"),
    Column("period_ends_at", Kind.MOMENT, "the end of the month, exclusive"),
    Column("line_key", Kind.TEXT, "the line's key, unique in its invoice; `line_key` of the charges export"),
    Column(
        "kind",
        Kind.TEXT,
        "usage, late_usage, adjustment, credit, correction, prepaid or carried_in: [months](months.md)",
    ),
    Column("provider", Kind.TEXT, "the upstream"),
    Column("model", Kind.TEXT, "the requested model"),
    Column(
        "month",
        Kind.TEXT,
        "the earlier month that late usage or an adjustment belongs to, or whose invoice is carried in",
    ),
    Column("adjustment_id", Kind.TEXT, "the credit or correction; empty for other lines"),
    Column("reason", Kind.TEXT, "the reason for the credit or correction"),
    Column("starts_at", Kind.MOMENT, "the start of the line; for late usage, when the first stream ended"),
    Column("ends_at", Kind.MOMENT, "the end of the line; for late usage, when the last stream ended"),
    Column("stream_count", Kind.COUNT, "number of streams"),
    *map(counter_column, COUNTERS),
    Column("exact_usd_cents", Kind.NUMBER, "the exact amount in cents", scale=CENTS_SCALE),
    Column("billed_cents", Kind.COUNT, "the line's share of the billed whole cents"),
    Column("invoice_exact_usd_cents", Kind.NUMBER, "the exact amount of the month's entries", scale=CENTS_SCALE),
    Column("invoice_carried_in_usd_cents", Kind.NUMBER, "the previous invoice's remainder", scale=CENTS_SCALE),
    Column("invoice_billed_cents", Kind.COUNT, "the billed part of both amounts"),
    Column("invoice_remainder_usd_cents", Kind.NUMBER, "the part that is not billed", scale=CENTS_SCALE),
    Column("state", Kind.TEXT, "the state of the push to Stripe: [months](months.md)"),
    Column("stripe_invoice_id", Kind.TEXT, "Stripe's id"),
    Column("stripe_number", Kind.TEXT, "Stripe's number"),
    Column("exact_usd", Kind.NUMBER, "exact_usd_cents in US dollars", scale=USD_SCALE),
    Column("billed_usd", Kind.NUMBER, "billed_cents in US dollars", scale=USD_SCALE),
    Column("invoice_billed_usd", Kind.NUMBER, "invoice_billed_cents in US dollars", scale=USD_SCALE),
    Column("invoice_prepaid_usd_cents", Kind.NUMBER, "what grants paid of the month", scale=CENTS_SCALE),
)
# The last columns of the query are the state and Stripe's ids, behind the exact and the billed amount.
_STRIPE_COLUMNS = 3


def line_rows(connection: Connection, months: Sequence[ExportMonth]) -> Iterator[list[Row]]:
    """The rows of these months, in batches of about a thousand; an open month has none.

    Raises:
        UnequalExportError: the lines of an invoice do not sum to its amounts.
    """
    return month_rows(months, iterate_lines(connection, months), _LineRows, sums=_SUMS)


class _LineRows:
    def __init__(self, month: ExportMonth) -> None:
        self._month = month

    def row(self, found: Any) -> Row:
        month, invoice = self._month, self._month.invoice
        assert invoice is not None
        exact, billed_cents = found[-_STRIPE_COLUMNS - 2 : -_STRIPE_COLUMNS]
        return (
            invoice.number,
            invoice.invoice_id,
            month.customer_id,
            month.customer_name,
            str(month.period),
            month.starts_at,
            month.ends_at,
            *found[1:-_STRIPE_COLUMNS],
            invoice.exact_usd_cents,
            invoice.carried_in_usd_cents,
            invoice.billed_cents,
            invoice.remainder_usd_cents,
            *found[-_STRIPE_COLUMNS:],
            usd(exact),
            usd(Decimal(billed_cents)),
            usd(Decimal(invoice.billed_cents)),
            invoice.prepaid_usd_cents,
        )

    def closing(self) -> list[Row]:
        """Nothing: an invoice has a line for every amount in it."""
        return []


def _exact(month: ExportMonth) -> Decimal | None:
    invoice = month.invoice
    if invoice is None:
        return None
    due = EXACT.add(invoice.exact_usd_cents, invoice.carried_in_usd_cents)
    return EXACT.subtract(due, invoice.prepaid_usd_cents)


_SUMS = (
    Sum(column=column_index(LINE_COLUMNS, "exact_usd_cents"), name="exact_usd_cents", expected=_exact),
    Sum(column=column_index(LINE_COLUMNS, "billed_cents"), name="billed_cents", expected=billed),
)

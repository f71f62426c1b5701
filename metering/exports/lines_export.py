"""The export of invoice lines: what the invoices of a month say, line by line."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from metering.core.money import EXACT
from metering.events.usage import COUNTERS
from metering.exports.columns import Column, Kind, Row, column_index
from metering.exports.month_rows import CENTS_SCALE, Sum, billed, month_rows
from metering.exports.queries.months import ExportMonth, iterate_lines

LINE_COLUMNS = (
    Column("invoice_number", Kind.TEXT, "the invoice's number"),
    Column("invoice_id", Kind.TEXT, "its id: `GET /v1/invoices/{invoice_id}`"),
    Column("customer_id", Kind.TEXT, "who pays"),
    Column("customer_name", Kind.TEXT, "its name today"),
    Column("period", Kind.TEXT, "the month"),
    Column("period_starts_at", Kind.MOMENT, "when it began, in the customer's time zone"),
    Column("period_ends_at", Kind.MOMENT, "when it ended, exclusive"),
    Column("line_key", Kind.TEXT, "unique in its invoice; entries of the charges export name it"),
    Column(
        "kind", Kind.TEXT, "usage, late_usage, adjustment, credit, correction or carried_in: [months](months.md)"
    ),
    Column("provider", Kind.TEXT, "the upstream"),
    Column("model", Kind.TEXT, "the model that was asked for"),
    Column(
        "month", Kind.TEXT, "of late usage and of what is adjusted: its; of what is carried in: that invoice's"
    ),
    Column("adjustment_id", Kind.TEXT, "of a credit or a correction"),
    Column("reason", Kind.TEXT, "why it was booked"),
    Column("starts_at", Kind.MOMENT, "from when the line is; of late usage, when the first stream ended"),
    Column("ends_at", Kind.MOMENT, "until when; of late usage, when the last stream ended"),
    Column("stream_count", Kind.COUNT, "how many streams it sums"),
    *(Column(name, Kind.COUNT, "tokens") for name in COUNTERS),
    Column("exact_usd_cents", Kind.NUMBER, "the exact amount in cents", scale=CENTS_SCALE),
    Column("billed_cents", Kind.COUNT, "its share of the whole cents that are billed"),
    Column("invoice_exact_usd_cents", Kind.NUMBER, "of the invoice: the month's entries", scale=CENTS_SCALE),
    Column("invoice_carried_in_usd_cents", Kind.NUMBER, "and what the one before left over", scale=CENTS_SCALE),
    Column("invoice_billed_cents", Kind.COUNT, "and what is billed of both"),
    Column("invoice_remainder_usd_cents", Kind.NUMBER, "and what is left over of both", scale=CENTS_SCALE),
    Column("state", Kind.TEXT, "how far Stripe has it: [months](months.md)"),
    Column("stripe_invoice_id", Kind.TEXT, "Stripe's id"),
    Column("stripe_number", Kind.TEXT, "Stripe's number"),
)
_EXACT_AT = column_index(LINE_COLUMNS, "exact_usd_cents")
_BILLED_AT = column_index(LINE_COLUMNS, "billed_cents")
_SUMS = (
    Sum(place=_EXACT_AT, name="exact_usd_cents", of=lambda month: _exact(month)),
    Sum(place=_BILLED_AT, name="billed_cents", of=billed),
)
# Behind the line itself come the state and Stripe's ids.
_BEHIND = 3


def line_rows(connection: Connection, months: Sequence[ExportMonth]) -> Iterator[list[Row]]:
    """The rows of these months, some thousand at a time; an open month has none.

    Raises:
        UnequalExportError: the lines of an invoice do not sum to what it says.
    """
    return month_rows(months, iterate_lines(connection, months), _LineRows, sums=_SUMS)


class _LineRows:
    def __init__(self, month: ExportMonth) -> None:
        self._month = month

    def row(self, found: Any) -> Row:
        month, invoice = self._month, self._month.invoice
        assert invoice is not None
        return (
            invoice.number,
            invoice.invoice_id,
            month.customer_id,
            month.customer_name,
            str(month.period),
            month.starts_at,
            month.ends_at,
            *found[1:-_BEHIND],
            invoice.exact_usd_cents,
            invoice.carried_in_usd_cents,
            invoice.billed_cents,
            invoice.remainder_usd_cents,
            *found[-_BEHIND:],
        )

    def closing(self) -> list[Row]:
        """An invoice has lines for all that it sums."""
        return []


def _exact(month: ExportMonth) -> Decimal | None:
    invoice = month.invoice
    return EXACT.add(invoice.exact_usd_cents, invoice.carried_in_usd_cents) if invoice else None

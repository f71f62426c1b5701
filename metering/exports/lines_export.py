"""The invoice-lines export: the lines of a month's invoices."""

from collections.abc import Generator, Sequence
from decimal import Decimal

from sqlalchemy import Connection

from metering.core.money import EXACT
from metering.exports.columns import column_index
from metering.exports.line_columns import LINE_COLUMNS
from metering.exports.month_rows import Sum, billed, month_lines
from metering.exports.queries.lines import copy_lines
from metering.exports.queries.months import ExportMonth


def line_rows(connection: Connection, months: Sequence[ExportMonth]) -> Generator[list[bytes]]:
    """The rows of these months as lines of CSV, in batches of about a thousand; an open month has none.

    Raises:
        UnequalExportError: the lines of an invoice do not sum to its amounts.
    """
    return month_lines(months, copy_lines(connection, months), columns=LINE_COLUMNS, sums=_SUMS)


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

"""The charges export: every entry of a month as a row; the rows sum to the invoices."""

from collections.abc import Generator, Sequence

from sqlalchemy import Connection

from metering.core.money import EXACT
from metering.exports.charge_columns import CHARGE_COLUMNS
from metering.exports.columns import Row, column_index
from metering.exports.month_rows import REMAINDER, Sum, billed, line_key, month_lines, usd
from metering.exports.queries.charges import copy_entries
from metering.exports.queries.months import ExportMonth
from metering.months.invoice import LineKind

_LINE_KEY = column_index(CHARGE_COLUMNS, "line_key")
_COST = column_index(CHARGE_COLUMNS, "cost_usd_cents")
_BETWEEN = (None,) * (_COST - _LINE_KEY - 1)


def charge_rows(connection: Connection, months: Sequence[ExportMonth]) -> Generator[list[bytes]]:
    """The rows of these months as lines of CSV, in batches of about a thousand.

    Raises:
        UnequalExportError: the rows of a closed month do not sum to the billed amount.
    """
    sums = [Sum(column=_COST, name="cost_usd_cents", expected=billed)]
    return month_lines(
        months,
        copy_entries(connection, months),
        columns=CHARGE_COLUMNS,
        sums=sums,
        last_rows=lambda number: _last_rows(months[number]),
    )


def _last_rows(month: ExportMonth) -> list[Row]:
    """What grants paid, the carried-in remainder of the previous invoice, and the remainder of this one."""
    invoice = month.invoice
    if invoice is None:
        return []
    head = (str(month.period), month.customer_id, month.customer_name, invoice.invoice_id, invoice.number)
    carried_in, prepaid = LineKind.CARRIED_IN.value, LineKind.PREPAID.value
    rows = [
        (prepaid, line_key(prepaid), EXACT.minus(invoice.prepaid_usd_cents)),
        (carried_in, line_key(carried_in, invoice.carried_from), invoice.carried_in_usd_cents),
        (REMAINDER, REMAINDER, EXACT.minus(invoice.remainder_usd_cents)),
    ]
    return [(row_kind, *head, key, *_BETWEEN, cents, usd(cents)) for row_kind, key, cents in rows if cents]

"""The FOCUS export: the usage of months, and all other amounts of their invoices, in FOCUS's terms."""

from collections.abc import Generator, Sequence
from contextlib import closing
from decimal import Decimal
from functools import lru_cache

from sqlalchemy import Connection

from metering.core.money import EXACT
from metering.exports.columns import column_index
from metering.exports.focus_columns import FOCUS_COLUMNS
from metering.exports.focus_rows import FocusRows
from metering.exports.list_prices import with_list_prices
from metering.exports.month_rows import Sum, billed, month_lines, usd
from metering.exports.queries.months import ExportMonth
from metering.exports.queries.usage import cards_of_free_bills, copy_usage
from metering.prices.store.cards import find_rate_card


def focus_rows(connection: Connection, months: Sequence[ExportMonth], *, issuer: str) -> Generator[list[bytes]]:
    """The rows of these months as lines of CSV, in batches of about a thousand.

    `issuer` is the company that sells and bills.

    Raises:
        UnequalExportError: the rows of a closed month do not sum to the billed amount.
    """
    return month_lines(
        months,
        _usage_lines(connection, months, issuer),
        columns=FOCUS_COLUMNS,
        sums=[Sum(column=column_index(FOCUS_COLUMNS, "BilledCost"), name="BilledCost", expected=_billed_usd)],
        last_rows=lambda number: FocusRows(months[number], issuer).last_rows(),
    )


def _usage_lines(connection: Connection, months: Sequence[ExportMonth], issuer: str) -> Generator[list[bytes]]:
    rate_card_ids = cards_of_free_bills(connection, months)
    found = ((each, find_rate_card(connection, rate_card_id=each)) for each in rate_card_ids)
    cards = {rate_card_id: card for rate_card_id, card in found if card is not None}
    # Rows come month by month.
    rows_of = lru_cache(maxsize=1)(lambda number: FocusRows(months[number], issuer))
    with closing(copy_usage(connection, months)) as usage:
        for rows in with_list_prices(cards, usage):
            yield [rows_of(row.n).line(row) for row in rows]


def _billed_usd(month: ExportMonth) -> Decimal | None:
    cents = billed(month)
    return None if cents is None else usd(EXACT.add(cents, Decimal(month.grants.sold_cents)))

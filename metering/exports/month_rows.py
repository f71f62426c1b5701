"""Rows of an export, by customer, with the check that they sum to the invoices.

An export whose rows do not sum to the billed amounts ends with an error before its file is complete.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol

from metering.core.errors import MeteringError
from metering.core.money import EXACT, ZERO
from metering.exports.columns import Row
from metering.exports.queries.months import ExportMonth
from metering.months.invoice import LineKind, line_key_of


class UnequalExportError(MeteringError):
    """The rows of a closed month do not sum to its invoice: a bug, or a change made outside the service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """The expected sum of a column over the rows of a month; None while the month is open."""

    column: int
    name: str
    expected: Callable[[ExportMonth], Decimal | None]


class RowsOfMonth(Protocol):
    """Makes the export's rows of one month."""

    def row(self, found: Any) -> Row:
        """The export's row for a row of the query."""

    def closing(self) -> Sequence[Row]:
        """The last rows of the month, which are derived from its invoice."""


# The remainder has no line on its invoice: the next invoice carries it in.
REMAINDER = "remainder"
CENTS_SCALE = 20
# Dollars have two decimals more than cents.
USD_SCALE = CENTS_SCALE + 2
_month_number = itemgetter(0)


def billed(month: ExportMonth) -> Decimal | None:
    """The billed whole cents of a closed month; None while it is open."""
    return Decimal(month.invoice.billed_cents) if month.invoice else None


@lru_cache(maxsize=10_000)
def line_key(
    kind: str,
    month: str | None = None,
    provider: str | None = None,
    model: str | None = None,
    adjustment_id: str | None = None,
) -> str:
    """The key of an invoice line, from `line_key_of`; cached, since a few lines include many entries."""
    return line_key_of(
        kind=LineKind(kind), month=month, provider=provider, model=model, adjustment_id=adjustment_id
    )


def usd(cents: Decimal) -> Decimal:
    """Cents in US dollars, exactly."""
    return EXACT.scaleb(cents, -2)


def month_rows(
    months: Sequence[ExportMonth],
    batches: Iterable[Sequence[Any]],
    make: Callable[[ExportMonth], RowsOfMonth],
    *,
    sums: Sequence[Sum],
) -> Iterator[list[Row]]:
    """The rows of a query as rows of the export, in batches of about the same size.

    The query's rows start with the number of their month in `months`, and are in that order.

    Raises:
        UnequalExportError: names the customer, the column and both sums.
    """
    open_months = _Months(months, make, sums)
    for batch in batches:
        rows: list[Row] = []
        for number, found in groupby(batch, _month_number):
            rows += open_months.close_before(number)
            rows += open_months.add(found)
        yield rows
    yield open_months.close_before(len(months))


class _Months:
    """The months whose rows are not complete yet; the first one's rows are being summed."""

    def __init__(
        self, months: Sequence[ExportMonth], make: Callable[[ExportMonth], RowsOfMonth], sums: Sequence[Sum]
    ) -> None:
        self._months = months
        self._make = make
        self._sums = sums
        self._number = 0
        self._begin()

    def add(self, found: Iterable[Any]) -> list[Row]:
        """More rows of the current month."""
        row = self._maker.row
        rows = [row(each) for each in found]
        self._count(rows)
        return rows

    def close_before(self, number: int) -> list[Row]:
        """The last rows of the months before this number, after checking their sums."""
        rows: list[Row] = []
        while self._number < number:
            closing = list(self._maker.closing())
            self._count(closing)
            self._check()
            rows += closing
            self._number += 1
            self._begin()
        return rows

    def _begin(self) -> None:
        self._totals = [ZERO for _ in self._sums]
        if self._number < len(self._months):
            self._maker = self._make(self._months[self._number])

    def _count(self, rows: Sequence[Row]) -> None:
        for number, each in enumerate(self._sums):
            total, column = self._totals[number], each.column
            for row in rows:
                total = EXACT.add(total, row[column])
            self._totals[number] = total

    def _check(self) -> None:
        month = self._months[self._number]
        for total, each in zip(self._totals, self._sums, strict=True):
            expected = each.expected(month)
            if expected is not None and total != expected:
                raise UnequalExportError(
                    f"{month.period} of customer {month.customer_id!r}: {each.name} sums to {total:f}, its invoice"
                    f" says {expected:f}; `metering audit` shows what changed"
                )

"""Rows of an export, by customer, with the check that they sum to the invoices.

An export whose rows do not sum to the billed amounts ends with an error before its file is complete.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from operator import itemgetter

from metering.core.errors import MeteringError
from metering.core.money import EXACT, ZERO
from metering.exports.columns import Column, Row
from metering.exports.csv_lines import rendered
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


# The remainder has no line on its invoice: the next invoice carries it in.
REMAINDER = "remainder"
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


def month_lines(
    months: Sequence[ExportMonth],
    batches: Generator[Sequence[bytes]],
    *,
    columns: Sequence[Column],
    sums: Sequence[Sum],
    last_rows: Callable[[int], Sequence[Row]] = lambda _: (),
) -> Generator[list[bytes]]:
    """The lines of a query, with the `last_rows` of each month behind its own, in batches of at most that size.

    The query's lines begin with the number of their month in `months`, which they are in order of, and with the
    amounts that `sums` lists; both are taken off. The query is closed in the end, also after an error.

    Raises:
        UnequalExportError: names the customer, the column and both sums.
    """
    open_months = _Months(months, columns=columns, sums=sums, last_rows=last_rows)
    with closing(batches):
        for batch in batches:
            lines: list[bytes] = []
            parts = (line.split(b",", 1 + len(sums)) for line in batch)
            for number, found in groupby(parts, _month_number):
                if last := open_months.close_before(int(number)):
                    # Apart, because they have negative numbers, which make a CSV file look at every line.
                    yield lines
                    yield last
                    lines = []
                of_month = list(found)
                for place in range(len(sums)):
                    open_months.count(place, [Decimal(part[1 + place].decode()) for part in of_month])
                lines += [part[-1] for part in of_month]
            yield lines
    yield open_months.close_before(len(months))


class _Months:
    """The months whose rows are not complete yet; the first one's rows are being summed."""

    def __init__(
        self,
        months: Sequence[ExportMonth],
        *,
        columns: Sequence[Column],
        sums: Sequence[Sum],
        last_rows: Callable[[int], Sequence[Row]],
    ) -> None:
        self._months = months
        self._last_rows = last_rows
        self._columns = columns
        self._sums = sums
        self._number = 0
        self._totals = [ZERO for _ in sums]

    def count(self, place: int, amounts: Iterable[Decimal]) -> None:
        """Add amounts of the current month to the sum at this place."""
        total = self._totals[place]
        for amount in amounts:
            total = EXACT.add(total, amount)
        self._totals[place] = total

    def add(self, rows: Sequence[Row]) -> list[bytes]:
        """More rows of the current month, as lines."""
        for place, each in enumerate(self._sums):
            self.count(place, [row[each.column] for row in rows])
        return rendered(rows, self._columns)

    def close_before(self, number: int) -> list[bytes]:
        """The last rows of the months before this number, after checking their sums."""
        lines: list[bytes] = []
        while self._number < number:
            lines += self.add(self._last_rows(self._number))
            self._check()
            self._number += 1
            self._totals = [ZERO for _ in self._sums]
        return lines

    def _check(self) -> None:
        month = self._months[self._number]
        for total, each in zip(self._totals, self._sums, strict=True):
            expected = each.expected(month)
            if expected is not None and total != expected:
                raise UnequalExportError(
                    f"{month.period} of customer {month.customer_id!r}: {each.name} sums to {total:f}, its invoice"
                    f" says {expected:f}; `metering audit` shows what changed"
                )

"""Rows of an export, month by month of its customers, with the proof that they sum to the invoices.

A file whose rows do not add up to what was billed is worse than none: it ends in an error before it is whole.
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
    """The rows of a closed month do not sum to its invoice: a bug, or a change beside the service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """What a column of the rows of a month has to sum to; None while that is not known."""

    place: int
    name: str
    of: Callable[[ExportMonth], Decimal | None]


class RowsOfMonth(Protocol):
    """How the rows of one month are made."""

    def row(self, found: Any) -> Row:
        """The row for what was found."""

    def closing(self) -> Sequence[Row]:
        """Rows that follow from the invoice alone, behind the others."""


# What is left over has no line on the invoice: the next one carries it in.
REMAINDER = "remainder"
CENTS_SCALE = 20
_place = itemgetter(0)


def billed(month: ExportMonth) -> Decimal | None:
    """What the rows of a closed month come to: whole cents."""
    return Decimal(month.invoice.billed_cents) if month.invoice else None


@lru_cache(maxsize=10_000)
def line_key(
    kind: str,
    month: str | None = None,
    provider: str | None = None,
    model: str | None = None,
    adjustment_id: str | None = None,
) -> str:
    """The key of an invoice line, as `line_key_of` makes it; few lines sum many entries."""
    return line_key_of(
        kind=LineKind(kind), month=month, provider=provider, model=model, adjustment_id=adjustment_id
    )


def month_rows(
    months: Sequence[ExportMonth],
    batches: Iterable[Sequence[Any]],
    make: Callable[[ExportMonth], RowsOfMonth],
    *,
    sums: Sequence[Sum],
) -> Iterator[list[Row]]:
    """What was found, as rows of the export, about as many at a time.

    What was found begins with the place of its month, and is in the order of the months.

    Raises:
        UnequalExportError: naming the customer, the column and both sums.
    """
    waiting = _Months(months, make, sums)
    for batch in batches:
        rows: list[Row] = []
        for place, found in groupby(batch, _place):
            rows += waiting.close_before(place)
            rows += waiting.add(found)
        yield rows
    yield waiting.close_before(len(months))


class _Months:
    """The months that are still to be closed; the first of them is summed."""

    def __init__(
        self, months: Sequence[ExportMonth], make: Callable[[ExportMonth], RowsOfMonth], sums: Sequence[Sum]
    ) -> None:
        self._months = months
        self._make = make
        self._sums = sums
        self._place = 0
        self._begin()

    def add(self, found: Iterable[Any]) -> list[Row]:
        """More rows of the month."""
        row = self._maker.row
        rows = [row(each) for each in found]
        self._count(rows)
        return rows

    def close_before(self, place: int) -> list[Row]:
        """The last rows of the months before this one, whose sums are proved then."""
        rows: list[Row] = []
        while self._place < place:
            closing = list(self._maker.closing())
            self._count(closing)
            self._prove()
            rows += closing
            self._place += 1
            self._begin()
        return rows

    def _begin(self) -> None:
        self._totals = [ZERO for _ in self._sums]
        if self._place < len(self._months):
            self._maker = self._make(self._months[self._place])

    def _count(self, rows: Sequence[Row]) -> None:
        for number, each in enumerate(self._sums):
            total, place = self._totals[number], each.place
            for row in rows:
                total = EXACT.add(total, row[place])
            self._totals[number] = total

    def _prove(self) -> None:
        month = self._months[self._place]
        for total, each in zip(self._totals, self._sums, strict=True):
            expected = each.of(month)
            if expected is not None and total != expected:
                raise UnequalExportError(
                    f"{month.period} of customer {month.customer_id!r}: {each.name} sums to {total:f}, its invoice"
                    f" says {expected:f}; `metering audit` tells what was changed"
                )

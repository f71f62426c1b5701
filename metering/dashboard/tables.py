"""Tables: rows that a page shows and sends as CSV, from the same values.

A page rounds for reading; a file has exact values: money in dollars with every digit.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from io import StringIO
from typing import TypeAlias

from metering.core.money import decimals_of
from metering.dashboard import values
from metering.exports.csv_file import defused


class Kind(StrEnum):
    """The kind of a column's values, which decides how they are formatted and aligned."""

    TEXT = "text"
    PROSE = "prose"
    CODE = "code"
    MONEY = "money"
    EXACT_MONEY = "exact-money"
    COUNT = "count"
    SHARE = "share"
    CHANGE = "change"
    PERCENT = "percent"
    TIME = "time"
    DAY = "day"
    STATE = "state"


_MONEY = (Kind.MONEY, Kind.EXACT_MONEY, Kind.CHANGE)
# Money in cents, shares as (part, whole), changes in percent as (now, before), times with a zone; None is unknown
# or not applicable.
Value: TypeAlias = str | int | Decimal | datetime | tuple[Decimal | int, Decimal | int] | None


@dataclass(frozen=True, slots=True)
class Cell:
    """A value with a link, with a note beside it, or under a name that people know it by."""

    value: Value
    href: str | None = None
    note: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name in rows and files, and its heading."""

    key: str
    title: str
    kind: Kind = Kind.TEXT

    @property
    def numeric(self) -> bool:
        """Whether it is right-aligned."""
        return self.kind in (*_MONEY, Kind.COUNT, Kind.SHARE, Kind.PERCENT)


Row: TypeAlias = Mapping[str, Value | Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows by column; `total` is a last row that sums them, `empty` the text when there are none.

    `more` is the address of the next page of rows. `whole` is False if there are more rows but no next page.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    empty: str
    total: Row | None = None
    more: str | None = None
    whole: bool = True
    note: str = field(default="")

    def cell(self, row: Row, column: Column) -> Cell:
        """The cell of a row and column."""
        found = row.get(column.key)
        return found if isinstance(found, Cell) else Cell(found)

    def decimals(self, column: Column) -> int:
        """The decimals of a column of exact amounts: as many as one of them needs, so that the points align."""
        if column.kind is not Kind.EXACT_MONEY:
            return 2
        rows = [*self.rows, self.total] if self.total else self.rows
        values_ = (self.cell(row, column).value for row in rows)
        return decimals_of(value for value in values_ if isinstance(value, Decimal))

    def all_decimals(self) -> Mapping[str, int]:
        """The decimals of every column, by its key."""
        return {column.key: self.decimals(column) for column in self.columns}


def shown(value: Value, kind: Kind, decimals: int = 2) -> str:
    """A value as a page shows it; an exact amount has at least this many decimals."""
    match value:
        case None | "":
            return "–"
        case datetime():
            return values.day(value) if kind is Kind.DAY else values.timestamp(value)
        case tuple():
            return values.percent(*value) if kind is Kind.PERCENT else values.share(*value)
        case Decimal() if kind is Kind.CHANGE:
            return f"{'+' if value > 0 else ''}{values.money(value)}"
        case Decimal():
            return values.exact_money(value, decimals) if kind is Kind.EXACT_MONEY else values.money(value)
        case int():
            return values.count(value)
    return value


def exact(value: Value) -> str:
    """A value as it is in a file, and in the page's machine-readable attributes."""
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case tuple():
            part, whole = value
            return f"{Decimal(part) / Decimal(whole):.6f}" if whole else ""
        case Decimal():
            return values.dollars_text(value)
    return str(value)


def table_csv(pages: Iterable[Table]) -> str:
    """A table, page by page, as CSV (RFC 4180), money in dollars, without spreadsheet formulas."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for number, table in enumerate(pages):
        if number == 0:
            names = (f"{each.key}_usd" if _is_money(each) else each.key for each in table.columns)
            writer.writerow(map(defused, names))
        for row in table.rows:
            writer.writerow([_field(table.cell(row, column).value) for column in table.columns])
    return out.getvalue()


def _is_money(column: Column) -> bool:
    return column.kind in _MONEY


def _field(value: Value) -> str:
    return defused(value) if isinstance(value, str) else exact(value)

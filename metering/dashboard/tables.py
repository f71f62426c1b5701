"""Tables: rows that a page shows and sends as CSV, from the same values.

A page rounds for reading; a file has exact values: money in dollars with every digit.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from io import StringIO
from typing import TypeAlias

from metering.dashboard import values
from metering.exports.csv_file import defused


class Kind(StrEnum):
    """The kind of a column's values, which decides how they are formatted and aligned."""

    TEXT = "text"
    PROSE = "prose"
    CODE = "code"
    MONEY = "money"
    EXACT_MONEY = "exact-money"
    # To four digits in each row, so that the points of a column are below each other.
    SMALL_MONEY = "small-money"
    COUNT = "count"
    SHARE = "share"
    CHANGE = "change"
    PERCENT = "percent"
    TIME = "time"
    # How long ago it was, on pages that reload themselves.
    AGO = "ago"
    DAY = "day"
    STATE = "state"
    # Dollars per unit, as text with every digit.
    RATE = "rate"
    DURATION = "duration"


_MONEY = (Kind.MONEY, Kind.EXACT_MONEY, Kind.SMALL_MONEY, Kind.CHANGE)
# Money in cents, shares as (part, whole), changes in percent as (now, before), times with a zone; None is unknown
# or not applicable.
Value: TypeAlias = str | int | Decimal | datetime | timedelta | tuple[Decimal | int, Decimal | int] | None


@dataclass(frozen=True, slots=True)
class Cell:
    """A value with a link, with a note beside it, or under a name that people know it by.

    A cell of a `customer` gets the customer's name when the page is rendered. `sort` is what it sorts by, if that
    is not the value. `more` are lines that it shows on request. `under` is a detail beneath it. `sheet` is the
    address of what opens beside the list in place of the link. `at` is the time that a text such as "1 hour ago"
    means.
    """

    value: Value
    href: str | None = None
    note: str | None = None
    name: str | None = None
    customer: bool = False
    sort: Value = None
    more: Sequence[str] = ()
    under: str | None = None
    sheet: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name in rows and files, and its heading."""

    key: str
    title: str
    kind: Kind = Kind.TEXT

    @property
    def numeric(self) -> bool:
        """Whether it is right-aligned."""
        return self.kind in (*_MONEY, Kind.COUNT, Kind.SHARE, Kind.PERCENT, Kind.DURATION, Kind.RATE)

    @property
    def largest_first(self) -> bool:
        """Whether people want its largest values first: amounts, counts, times."""
        return self.numeric or self.kind in (Kind.TIME, Kind.AGO, Kind.DAY)


Row: TypeAlias = Mapping[str, Value | Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows by column; `total` is a last row that sums them, `empty` the text when there are none.

    `more` is the address of the next page of rows. `whole` is False if there are more rows but no next page.
    `rest` is a row that sums what is left out. `count` is the number of rows on all pages, if that is known.

    The rows of a `fixed` table have an order of their own. `sorted_by` is the column by which the rows are sorted,
    with a minus before it if the largest is first. `sorts` are the columns by which the page itself sorts all of
    its rows; a table that is whole sorts by any column.
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
    rest: Row | None = None
    count: int | None = None
    sorted_by: str = ""
    sorts: Sequence[str] = ()
    fixed: bool = False

    def cell(self, row: Row, column: Column) -> Cell:
        """The cell of a row and column."""
        found = row.get(column.key)
        return found if isinstance(found, Cell) else Cell(found)

    def customer_of(self, row: Row) -> str | None:
        """The customer that a row is about, if the row says so."""
        found = row.get("customer_id")
        value = found.value if isinstance(found, Cell) else found
        return value if isinstance(value, str) else None


def shown(value: Value, kind: Kind, places: int | None = None) -> str:
    """A value as a page shows it; `places` are the digits after the point that the amounts of its column have."""
    match value:
        case Decimal() if places is not None and kind in (Kind.MONEY, Kind.CHANGE):
            plus = "+" if kind is Kind.CHANGE and value > 0 else ""
            return f"{plus}{values.money_to(value, places)}"
        case None | "":
            return "–"
        case datetime():
            return values.day(value) if kind is Kind.DAY else values.timestamp(value)
        case timedelta():
            return values.duration(value)
        case tuple():
            return values.percent(*value) if kind is Kind.PERCENT else values.share(*value)
        case Decimal() if kind is Kind.CHANGE:
            return f"{'+' if value > 0 else ''}{values.money(value)}"
        case Decimal() if kind is Kind.SMALL_MONEY:
            return values.small_money(value)
        case Decimal():
            return values.exact_money(value) if kind is Kind.EXACT_MONEY else values.money(value)
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
        case timedelta():
            return f"{value // timedelta(milliseconds=1) / Decimal(1000)}"
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
            names = (f"{each.key}{_unit(each)}" for each in table.columns)
            writer.writerow(map(defused, names))
        for row in [*table.rows, *([table.rest] if table.rest else ())]:
            writer.writerow([_field(table.cell(row, column).value) for column in table.columns])
    return out.getvalue()


def _unit(column: Column) -> str:
    if column.kind in _MONEY:
        return "_usd"
    return "_seconds" if column.kind is Kind.DURATION else ""


def _field(value: Value) -> str:
    return defused(value) if isinstance(value, str) else exact(value)

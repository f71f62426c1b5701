"""Tables: what a page shows in rows, and gives as CSV. The two are made of the same values.

A cell is shown as people read it and goes into a file exactly: money in dollars with every digit.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from io import StringIO
from typing import TypeAlias

from metering.dashboard import values
from metering.exports.csv_file import defused


class Kind(StrEnum):
    """What a column has, which says how it is shown and aligned."""

    TEXT = "text"
    PROSE = "prose"
    CODE = "code"
    MONEY = "money"
    EXACT_MONEY = "exact-money"
    COUNT = "count"
    SHARE = "share"
    MOMENT = "moment"
    DAY = "day"
    STATE = "state"


# Money in cents, shares as (part, whole), moments in UTC; None is nothing.
Value: TypeAlias = str | int | Decimal | datetime | tuple[Decimal | int, Decimal | int] | None


@dataclass(frozen=True, slots=True)
class Cell:
    """A value that leads somewhere, or needs a word beside it."""

    value: Value
    href: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name in rows and files, and its heading."""

    key: str
    title: str
    kind: Kind = Kind.TEXT

    @property
    def numeric(self) -> bool:
        """Whether it is aligned to the right."""
        return self.kind in (Kind.MONEY, Kind.EXACT_MONEY, Kind.COUNT, Kind.SHARE)


Row: TypeAlias = Mapping[str, Value | Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows by column; `total` is a last row that sums them, `empty` what to do when there are none.

    `more` leads to the next page of rows; where there are more and it does not, `whole` is False.
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
        """The cell of a row, with or without a link."""
        found = row.get(column.key)
        return found if isinstance(found, Cell) else Cell(found)


def shown(value: Value, kind: Kind) -> str:
    """A value as people read it."""
    match value:
        case None | "":
            return "–"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d}" if kind is Kind.DAY else values.moment(value)
        case tuple():
            return values.share(*value)
        case Decimal():
            return values.exact_money(value) if kind is Kind.EXACT_MONEY else values.money(value)
        case int():
            return values.count(value)
    return value


def exact(value: Value) -> str:
    """A value as it goes into a file, and as a machine reads it from the page."""
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
    """A table, page by page, as CSV by RFC 4180, money in dollars; safe to open in a spreadsheet."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for number, table in enumerate(pages):
        if number == 0:
            writer.writerow([f"{each.key}_usd" if _is_money(each) else each.key for each in table.columns])
        for row in table.rows:
            writer.writerow([_field(table.cell(row, column).value) for column in table.columns])
    return out.getvalue()


def _is_money(column: Column) -> bool:
    return column.kind in (Kind.MONEY, Kind.EXACT_MONEY)


def _field(value: Value) -> str:
    return defused(value) if isinstance(value, str) else exact(value)

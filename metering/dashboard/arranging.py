"""Tables as a page shows them: sorted as its address asks, with customers' names, one precision a column."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from metering.dashboard.errors import InvalidFilterError
from metering.dashboard.tables import Cell, Column, Kind, Row, Table, Value, shown

_CENT = Decimal(1)
# Digits after the point of a column of amounts: to the cent, or where some are below a cent.
_COARSE, _FINE = 2, 4


@dataclass(frozen=True, slots=True)
class Sort:
    """The column by which a table is sorted, and whether the largest is first."""

    column: str
    descending: bool

    @classmethod
    def parse(cls, text: str) -> "Sort":
        """As an address has it: `cost`, or `-cost` for the largest first."""
        return cls(text.removeprefix("-"), text.startswith("-"))

    def __str__(self) -> str:
        return f"{'-' if self.descending else ''}{self.column}"


def sort_name(table: str) -> str:
    """The name of a table's sort in the address of its page."""
    return f"sort-{table}"


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a column: the sort that it leads to, and if it is the present one, `ascending` or so."""

    column: Column
    leads_to: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class Amount:
    """The text of an amount: what is read first, the digits that follow, and the room that aligns the point."""

    first: str
    rest: str = ""
    room: str = ""


@dataclass(frozen=True, slots=True)
class Arranged:
    """A table in its order, with the names of its customers."""

    table: Table
    headings: Sequence[Heading]
    places: Mapping[str, int]

    def amount(self, cell: Cell, column: Column) -> Amount:
        """The text of an amount, with the digits of its column."""
        places = self.places.get(column.key, _COARSE)
        text = shown(cell.value, column.kind, places)
        first, point, digits = text.partition(".")
        if not point:
            return Amount(text)
        room = "0" * (places - len(digits)) if column.kind is Kind.EXACT_MONEY else ""
        return Amount(f"{first}.{digits[:_COARSE]}", digits[_COARSE:], room)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How a request wants its tables: the query of its address, and the names of customers."""

    query: Mapping[str, str]
    is_first_page: bool = True
    names: Mapping[str, str] | None = None

    def __call__(self, table: Table) -> Arranged:
        """The table, arranged.

        Raises:
            InvalidFilterError: it has no such column to sort by.
        """
        named = self.in_order(self._named(table))
        return Arranged(named, [self._heading(named, each) for each in table.columns], _places(named))

    def in_order(self, table: Table) -> Table:
        """The table sorted as the address asks, if all of its rows are here.

        Raises:
            InvalidFilterError: it has no such column.
        """
        given = self.query.get(sort_name(table.name))
        if given is None:
            return table
        sort = Sort.parse(given)
        column = next((each for each in table.columns if each.key == sort.column), None)
        if column is None:
            names = ", ".join(each.key for each in table.columns)
            raise InvalidFilterError(
                f"{sort_name(table.name)}: one of {names}, with a minus for the largest first"
            )
        if not self._is_complete(table):
            # The page has sorted it, if it can.
            return replace(table, sorted_by=str(sort)) if sort.column in table.sorts else table
        return replace(table, rows=_sorted(table, column, descending=sort.descending), sorted_by=str(sort))

    def _is_complete(self, table: Table) -> bool:
        return not table.fixed and table.whole and table.more is None and table.rest is None and self.is_first_page

    def _heading(self, table: Table, column: Column) -> Heading:
        now = Sort.parse(table.sorted_by)
        is_now = now.column == column.key
        says = ("descending" if now.descending else "ascending") if is_now else None
        sortable = column.kind is not Kind.PROSE if self._is_complete(table) else column.key in table.sorts
        if not sortable or len(table.rows) < 2:
            return Heading(column, None, says)
        descending = not now.descending if is_now else column.largest_first
        return Heading(column, str(Sort(column.key, descending)), says)

    def _named(self, table: Table) -> Table:
        names = self.names or {}
        if not names:
            return table
        return replace(
            table, rows=[{key: _with_name(cell, names) for key, cell in row.items()} for row in table.rows]
        )


def _with_name(cell: Value | Cell, names: Mapping[str, str]) -> Value | Cell:
    if isinstance(cell, Cell) and cell.customer and cell.name is None and isinstance(cell.value, str):
        return replace(cell, name=names.get(cell.value))
    return cell


def customers_in(tables: Iterable[Table]) -> Collection[str]:
    """The ids of the customers that tables list."""
    cells = (cell for table in tables for row in table.rows for cell in row.values())
    return {
        cell.value for cell in cells if isinstance(cell, Cell) and cell.customer and isinstance(cell.value, str)
    }


def _sorted(table: Table, column: Column, *, descending: bool) -> Sequence[Row]:
    """The rows by a column: numbers by their value, texts without case, what is unknown last in either order."""
    keyed = [(_key(table.cell(row, column)), row) for row in table.rows]
    known = sorted(
        ((key, row) for key, row in keyed if key is not None), key=lambda each: each[0], reverse=descending
    )
    return [*(row for _, row in known), *(row for key, row in keyed if key is None)]


def _key(cell: Cell) -> tuple[bool, Decimal, str] | None:
    """What a cell sorts by; None if its value is unknown."""
    value = cell.value if cell.sort is None else cell.sort
    match value:
        case None | "":
            return None
        case datetime():
            return (False, Decimal(value.timestamp()), "")
        case timedelta():
            return (False, Decimal(value // timedelta(microseconds=1)), "")
        case tuple():
            part, whole = value
            return (False, Decimal(part) / Decimal(whole), "") if whole else None
        case Decimal() | int():
            return (False, Decimal(value), "")
    return (True, Decimal(0), (cell.name or value).casefold())


def _places(table: Table) -> Mapping[str, int]:
    """How many digits after the point the amounts of each column have."""
    places = {}
    for column in table.columns:
        found = [table.cell(row, column).value for row in table.rows]
        amounts = [each for each in found if isinstance(each, Decimal)]
        if column.kind is Kind.EXACT_MONEY:
            texts = (shown(each, column.kind) for each in amounts)
            places[column.key] = max((len(text.partition(".")[2]) for text in texts), default=_COARSE)
        elif column.kind in (Kind.MONEY, Kind.CHANGE):
            fine = any(0 < abs(each) < _CENT for each in amounts)
            places[column.key] = _FINE if fine else _COARSE
    return places

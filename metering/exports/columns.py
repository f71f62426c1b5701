"""Columns of an export: their names, types and meanings, independent of the file format."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from metering.core.errors import MeteringError
from metering.events.usage import TIMED_COUNTERS

# One row of an export, in the order of its columns.
Row = tuple[Any, ...]
# Decimals of amounts in cents, and in dollars, which have two more.
CENTS_SCALE = 20
USD_SCALE = CENTS_SCALE + 2


class Kind(StrEnum):
    """Type of a column. Its Python values are str, int, Decimal, datetime, bool or, for JSON, str; or None."""

    TEXT = "text"
    COUNT = "integer"
    NUMBER = "decimal"
    MOMENT = "timestamp"
    FLAG = "boolean"
    JSON = "JSON"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `scale` is the most decimals that a NUMBER may have in a Parquet file; a CSV file has no limit.

    `distinct` columns have a different value in most rows, so a Parquet file keeps no dictionary of their values.
    """

    name: str
    kind: Kind
    meaning: str
    scale: int = 0
    distinct: bool = False


def counter_column(name: str, more: str = "") -> Column:
    """The column of a usage counter."""
    if name in TIMED_COUNTERS:
        return Column(name, Kind.NUMBER, f"seconds{more}", scale=3)
    what = "number of tokens" if name.endswith("_tokens") else f"number of {name.replace('_', ' ')}"
    return Column(name, Kind.COUNT, f"{what}{more}")


def column_index(columns: Sequence[Column], name: str) -> int:
    """The index of a column in a row."""
    return [column.name for column in columns].index(name)


class UnrepresentableError(MeteringError):
    """The file format cannot hold a value exactly; nothing is rounded, so the export fails."""


class ExportFile(Protocol):
    """A file that is being written. The bytes that its methods return, in order, are the file.

    Rows come as lines of CSV without their line ends, as PostgreSQL's COPY writes them: NULL is nothing and an
    empty text is `""`, numbers have no needless zeros, times are ISO 8601 in UTC, and booleans are `true` and
    `false`.
    """

    def head(self) -> bytes:
        """The bytes before the first row."""

    def lines(self, lines: Sequence[bytes]) -> bytes:
        """The bytes of these rows; a format may hold rows back until it has more.

        Raises:
            UnrepresentableError: names the column.
        """

    def end(self) -> bytes:
        """The remaining bytes; without them the file is incomplete."""

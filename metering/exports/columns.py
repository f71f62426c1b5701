"""Columns of an export: their names, what they hold and what it means, whatever the format of the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from metering.core.errors import MeteringError

# One row of an export, in the order of its columns.
Row = tuple[Any, ...]


class Kind(StrEnum):
    """What a column holds: in Python str, int, Decimal, datetime or bool; None where there is nothing."""

    TEXT = "text"
    COUNT = "integer"
    NUMBER = "decimal"
    MOMENT = "timestamp"
    FLAG = "boolean"
    JSON = "JSON"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `scale` is how many decimals a NUMBER may have in a Parquet file; in a CSV file it has them all.

    `distinct` columns differ from row to row, so that no file keeps a dictionary of their values.
    """

    name: str
    kind: Kind
    meaning: str
    scale: int = 0
    distinct: bool = False


def column_index(columns: Sequence[Column], name: str) -> int:
    """Where in a row the column is."""
    return [column.name for column in columns].index(name)


class UnrepresentableError(MeteringError):
    """A value that the file's format cannot hold exactly; nothing is rounded, so there is no file."""


class ExportFile(Protocol):
    """A file that is being written. The bytes of its calls, one after another, are the file."""

    def head(self) -> bytes:
        """What comes before the first row."""

    def rows(self, rows: Sequence[Row]) -> bytes:
        """These rows; a format may keep some back until there are more.

        Raises:
            UnrepresentableError: naming the column.
        """

    def end(self) -> bytes:
        """What is left; without it the file is not whole."""

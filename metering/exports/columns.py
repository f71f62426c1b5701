"""Columns of an export: their names, what they hold and what it means, whatever the format of the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

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


def place_of(columns: Sequence[Column], name: str) -> int:
    """Where in a row the column is."""
    return [column.name for column in columns].index(name)

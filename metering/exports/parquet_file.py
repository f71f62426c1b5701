"""Parquet files: numbers as decimal128, times as UTC microseconds, zstd, row groups of bounded size.

A decimal has 38 digits, and as many decimals as its column declares. A number with more digits is an error, and is
never rounded.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from io import BytesIO, RawIOBase
from typing import Any

import pyarrow
from pyarrow import csv, parquet

from metering.exports.columns import Column, Kind, UnrepresentableError
from metering.exports.csv_lines import parsed

ROW_GROUP = 50_000
_READ_TOGETHER = 5_000
PRECISION = 38


class ParquetFile:
    """A Parquet file that is being written; it holds at most one row group in memory.

    A row group has ROW_GROUP rows, plus the rest of the lines that completed it.
    """

    def __init__(self, columns: Sequence[Column], *, facts: Mapping[str, str]) -> None:
        """`facts` go into the file's metadata."""
        self._columns = columns
        fields = [pyarrow.field(column.name, _arrow_type(column)) for column in columns]
        self._schema = pyarrow.schema(fields, metadata=dict(facts))
        self._out = _Outbox()
        self._writer = parquet.ParquetWriter(
            self._out,
            self._schema,
            compression="zstd",
            use_dictionary=[column.name for column in columns if not column.distinct],
        )
        types = {field.name: field.type for field in self._schema}
        self._converting = csv.ConvertOptions(column_types=types, **_CONVERSION)
        self._lines: list[bytes] = []
        self._waiting: list[Any] = []

    def head(self) -> bytes:
        """The format's magic number."""
        return self._out.take()

    def lines(self, lines: Sequence[bytes]) -> bytes:
        """The row groups that these rows complete.

        Raises:
            UnrepresentableError: a number has more digits than its column holds.
        """
        self._lines += lines
        if len(self._lines) >= _READ_TOGETHER:
            self._read_lines()
        if sum(table.num_rows for table in self._waiting) >= ROW_GROUP:
            self._write_group()
        return self._out.take()

    def end(self) -> bytes:
        """The last row group and the footer; a file without its footer cannot be read."""
        self._read_lines()
        if self._waiting:
            self._write_group()
        self._writer.close()
        return self._out.take()

    def _read_lines(self) -> None:
        """Take the lines into Arrow's form, which takes a tenth of their memory."""
        if not self._lines:
            return
        text = b"\n".join([*self._lines, b""])
        self._lines.clear()
        # One block: a row must not be cut.
        reading = csv.ReadOptions(column_names=self._schema.names, use_threads=False, block_size=len(text))
        try:
            found = csv.read_csv(BytesIO(text), reading, _PARSING, self._converting)
            # The reader itself takes numbers that have a digit more than their type.
            found.validate(full=True)
        except pyarrow.ArrowInvalid:
            self._refuse_numbers(text)
            raise
        self._waiting.append(found)

    def _refuse_numbers(self, text: bytes) -> None:
        """Raise what is to be said of the first number that does not fit."""
        for row in parsed(text.decode()):
            for cell, column, field in zip(row, self._columns, self._schema, strict=True):
                if cell and column.kind in _NUMBERS and not _fits(Decimal(cell), field.type):
                    raise UnrepresentableError(
                        f"{column.name}: {cell} does not fit {_room(column)}; export CSV instead"
                    )

    def _write_group(self) -> None:
        group = pyarrow.concat_tables(self._waiting)
        self._writer.write_table(group, row_group_size=group.num_rows)
        self._waiting.clear()


class _Outbox(RawIOBase):
    """Collects the bytes that the writer writes until they are taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        self._parts.append(bytes(part))
        self._length += len(part)
        return len(part)

    def tell(self) -> int:
        return self._length

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def _room(column: Column) -> str:
    if column.kind is Kind.COUNT:
        return "an integer of 64 bits"
    digits = f"{PRECISION - column.scale} digits before the point and {column.scale} after it"
    return f"a Parquet decimal of {digits}"


def _arrow_type(column: Column) -> Any:
    if column.kind is Kind.NUMBER:
        return pyarrow.decimal128(PRECISION, column.scale)
    return _TYPES[column.kind]


def _fits(number: Decimal, kind: Any) -> bool:
    try:
        pyarrow.array([number if pyarrow.types.is_decimal(kind) else int(number)], kind)
    except (pyarrow.ArrowInvalid, OverflowError):
        return False
    return True


_NUMBERS = (Kind.NUMBER, Kind.COUNT)
_PARSING = csv.ParseOptions(newlines_in_values=True)
# An empty cell is NULL without quotes, and an empty text with them.
_CONVERSION: Mapping[str, Any] = {
    "strings_can_be_null": True,
    "quoted_strings_can_be_null": False,
    "null_values": [""],
    "true_values": ["true"],
    "false_values": ["false"],
}
_TYPES = {
    Kind.TEXT: pyarrow.string(),
    Kind.COUNT: pyarrow.int64(),
    Kind.MOMENT: pyarrow.timestamp("us", tz="UTC"),
    Kind.FLAG: pyarrow.bool_(),
    Kind.JSON: pyarrow.string(),
}

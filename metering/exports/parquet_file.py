"""Parquet files: numbers as decimal128, times as UTC microseconds, zstd, row groups of bounded size.

A decimal has 38 digits, and as many decimals as its column declares. A number with more digits is an error, and is
never rounded.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from io import RawIOBase
from typing import Any

import pyarrow
from pyarrow import parquet

from metering.exports.columns import Column, Kind, Row, UnrepresentableError

ROW_GROUP = 50_000
PRECISION = 38


class ParquetFile:
    """A Parquet file that is being written; it holds at most one row group in memory.

    A row group has ROW_GROUP rows, plus the rest of the batch that completed it.
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
        self._waiting: list[Any] = []

    def head(self) -> bytes:
        """The format's magic number."""
        return self._out.take()

    def rows(self, rows: Sequence[Row]) -> bytes:
        """The row groups that these rows complete.

        Raises:
            UnrepresentableError: a number has more digits than its column holds.
        """
        if rows:
            # Arrow's form takes a tenth of the memory.
            self._waiting.append(self._batch(rows))
        if sum(batch.num_rows for batch in self._waiting) >= ROW_GROUP:
            self._write_group()
        return self._out.take()

    def end(self) -> bytes:
        """The last row group and the footer; a file without its footer cannot be read."""
        if self._waiting:
            self._write_group()
        self._writer.close()
        return self._out.take()

    def _batch(self, rows: Sequence[Row]) -> Any:
        arrays = [
            _array(values, column, field.type)
            for values, column, field in zip(zip(*rows, strict=True), self._columns, self._schema, strict=True)
        ]
        return pyarrow.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _write_group(self) -> None:
        group = pyarrow.Table.from_batches(self._waiting)
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


def _arrow_type(column: Column) -> Any:
    if column.kind is Kind.NUMBER:
        return pyarrow.decimal128(PRECISION, column.scale)
    return _TYPES[column.kind]


def _array(values: Sequence[Any], column: Column, kind: Any) -> Any:
    try:
        return pyarrow.array(values, kind)
    except (pyarrow.ArrowInvalid, OverflowError) as error:
        if column.kind not in (Kind.NUMBER, Kind.COUNT):
            raise
        culprit = next(value for value in values if not _fits(value, kind))
        digits = f"{PRECISION - column.scale} digits before the point and {column.scale} after it"
        raise UnrepresentableError(
            f"{column.name}: {Decimal(culprit):f} does not fit a Parquet decimal of {digits}; export CSV instead"
        ) from error


def _fits(value: Any, kind: Any) -> bool:
    try:
        pyarrow.array([value], kind)
    except (pyarrow.ArrowInvalid, OverflowError):
        return False
    return True


_TYPES = {
    Kind.TEXT: pyarrow.string(),
    Kind.COUNT: pyarrow.int64(),
    Kind.MOMENT: pyarrow.timestamp("us", tz="UTC"),
    Kind.FLAG: pyarrow.bool_(),
    Kind.JSON: pyarrow.string(),
}

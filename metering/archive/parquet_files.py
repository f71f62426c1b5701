"""Parquet files of an archive: written and read in row groups of bounded size, in a constant amount of memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import dataset, parquet

from metering.archive.columns import Column, Kind
from metering.archive.manifest import DamagedArchiveError

# A row group ends at either. A request's body can have some megabytes.
_ROWS = 50_000
_BYTES = 16 << 20
_READ_ROWS, _READ_BODIES = 5_000, 50

# An archive is written once. It is a fifth smaller than at the usual level, for some seconds a million streams.
_LEVEL = 9

Row = tuple[Any, ...]

_TYPES = {
    Kind.TEXT: pyarrow.string(),
    Kind.JSON: pyarrow.string(),
    Kind.TIME: pyarrow.timestamp("us", tz="UTC"),
    Kind.LONG: pyarrow.int64(),
    Kind.NUMBER: pyarrow.int32(),
    Kind.SHORT: pyarrow.int16(),
    Kind.FLAG: pyarrow.bool_(),
    Kind.NUMBERS: pyarrow.list_(pyarrow.int32()),
    Kind.BYTES: pyarrow.binary(),
}


def write_rows(path: Path, columns: Sequence[Column], batches: Iterable[Sequence[Row]]) -> int:
    """Write a new file; return the number of rows. The values of a row are in the order of the columns."""
    schema = pyarrow.schema([pyarrow.field(column.name, _TYPES[column.kind]) for column in columns])
    rows = 0
    with parquet.ParquetWriter(path, schema, compression="zstd", compression_level=_LEVEL) as writer:
        waiting: list[Any] = []
        for batch in batches:
            if not batch:
                continue
            waiting.append(_record_batch(batch, schema))
            rows += len(batch)
            if sum(each.num_rows for each in waiting) >= _ROWS or sum(each.nbytes for each in waiting) >= _BYTES:
                _write(writer, waiting)
        if waiting:
            _write(writer, waiting)
    return rows


def _record_batch(rows: Sequence[Row], schema: Any) -> Any:
    arrays = [
        pyarrow.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)
    ]
    return pyarrow.RecordBatch.from_arrays(arrays, schema=schema)


def _write(writer: Any, waiting: list[Any]) -> None:
    table = pyarrow.Table.from_batches(waiting)
    writer.write_table(table, row_group_size=table.num_rows)
    waiting.clear()


def read_rows(
    path: Path, columns: Sequence[Column], *, where: Mapping[str, str] | None = None
) -> Iterator[list[Row]]:
    """The rows of a file in batches, each row in the order of the columns; only those with the values of `where`.

    Raises:
        DamagedArchiveError: the file cannot be read, or has other columns.
    """
    names = [column.name for column in columns]
    size = _READ_BODIES if any(column.kind is Kind.BYTES for column in columns) else _READ_ROWS
    try:
        if where is not None:
            conditions = [(name, "=", value) for name, value in where.items()]
            batches = parquet.read_table(path, columns=names, filters=conditions).to_batches()
        else:
            batches = _group_by_group(path, names, size)
        for batch in batches:
            yield list(zip(*(each.to_pylist() for each in batch.columns), strict=True))
    except (OSError, pyarrow.ArrowException) as error:
        raise DamagedArchiveError(f"{path} cannot be read: {error}") from error


def _group_by_group(path: Path, names: Sequence[str], size: int) -> Iterator[Any]:
    """The batches of a file. Asked for all row groups at once, the reader would keep several in memory."""
    with parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.iter_batches(size, row_groups=[group], columns=names, use_threads=False)


def has_time(path: Path, column: str, value: Any) -> bool:
    """Whether a row has this time; row groups that cannot have it are skipped."""
    found = dataset.dataset(path, format="parquet")
    wanted = pyarrow.scalar(value, _TYPES[Kind.TIME])
    return bool(found.count_rows(filter=dataset.field(column) == wanted))

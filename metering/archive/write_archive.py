"""Write an archive: the journal of one month and the streams that ended with it, as files. Nothing is removed.

The files are read back and compared with the database, row by row, in the snapshot from which they were written.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from metering.archive.columns import JOURNAL_COLUMNS, STREAM_COLUMNS, Column, place_of
from metering.archive.manifest import JOURNAL, STREAMS, Manifest, checksums, write_manifest
from metering.archive.parquet_files import read_rows, write_rows
from metering.archive.queries import (
    count_requests,
    iterate_requests,
    iterate_streams,
    journal_months,
    list_archives,
    not_closed,
)
from metering.core.errors import MeteringError
from metering.core.folders import new_folder, sync
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE
from metering.db.snapshots import long_read_transaction

# Called with the current step, and the rows of it that are done.
Progress = Callable[[str, int], None]
_Rows = Iterable[Sequence[tuple[Any, ...]]]


class ArchiveRefusedError(MeteringError):
    """The month cannot be archived; the message says why. Nothing was written or removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What writes an archive: the release, and the schema that it needs."""

    release: str
    schema_version: str


def write_archive(
    *,
    engine: Engine,
    month: BillingPeriod,
    folder: Path,
    code: Code,
    now: datetime,
    progress: Progress = lambda *_: None,
) -> Manifest:
    """Write what arrived in a month of UTC into a new folder, and the streams whose last event came by its end.

    A stream is left out while its charge is not in a closed month, or while it waits for anything.

    Raises:
        ArchiveRefusedError: the month has not ended or is not closed, is archived, or an earlier one is not.
        FolderError: the folder exists, or cannot be made.
    """
    with long_read_transaction(engine) as connection:
        begin, end = _check(connection, month, now)
        with new_folder(folder) as partial:
            streams = _write(
                partial / STREAMS,
                STREAM_COLUMNS,
                lambda: iterate_streams(connection, before=end),
                _counting("streams", progress),
            )
            requests = _write(
                partial / JOURNAL,
                JOURNAL_COLUMNS,
                lambda: iterate_requests(connection, from_=begin, before=end),
                _counting("requests", progress),
            )
            manifest = Manifest(
                archive_id=str(month),
                release=code.release,
                schema_version=code.schema_version,
                taken_at=now,
                received_from=begin,
                received_before=end,
                request_count=requests,
                event_count=count_requests(connection, from_=begin, before=end)[1],
                stream_count=streams,
                files=checksums(partial),
            )
            write_manifest(manifest, partial)
    return manifest


def _check(connection: Connection, month: BillingPeriod, now: datetime) -> tuple[datetime, datetime]:
    """The month's start and end in UTC, if it can be archived."""
    begin, end = (each.start(time_zone=UTC_ZONE).astimezone(UTC) for each in (month, month.next))
    if end > now:
        raise ArchiveRefusedError(f"{month} has not ended: only closed months are archived")
    if str(month) in {each.archive_id for each in list_archives(connection)}:
        raise ArchiveRefusedError(f"{month} is archived already: `metering archive list` says when")
    months = journal_months(connection)
    if str(month) not in months:
        raise ArchiveRefusedError(f"the journal has no {month}: its months are {months[0]} to {months[-1]}")
    for earlier in months[: months.index(str(month))]:
        first = BillingPeriod.parse(earlier).start(time_zone=UTC_ZONE)
        if count_requests(connection, from_=first, before=begin)[0]:
            raise ArchiveRefusedError(f"{earlier} is not archived: archive the oldest month first")
    customers, examples = not_closed(connection, period=str(month), before=end)
    if customers:
        raise ArchiveRefusedError(
            f"{month} is not closed for {customers:,} customers, such as {', '.join(examples)}: run `metering"
            f" invoices run --period {month}`"
        )
    return begin, end


def _write(
    path: Path, columns: Sequence[Column], rows: Callable[[], _Rows], count: Callable[[int, str], None]
) -> int:
    written = write_rows(path, columns, _counted(rows(), count, "writing"))
    sync(path)
    compared = _counted(read_rows(path, columns), count, "comparing")
    _compare(path, columns, rows(), compared)
    return written


def _compare(path: Path, columns: Sequence[Column], stored: _Rows, written: _Rows) -> None:
    """Compare the rows of a file with those of the database, which have the same order."""
    pairs = zip_longest(chain.from_iterable(stored), chain.from_iterable(written))
    for number, (expected, found) in enumerate(pairs, start=1):
        if expected == found:
            continue
        names = [
            column.name
            for column in columns
            if expected is None
            or found is None
            or expected[place_of(columns, column.name)] != found[place_of(columns, column.name)]
        ]
        raise ArchiveRefusedError(f"{path.name}: row {number:,} differs from the database in {', '.join(names)}")


def _counting(what: str, progress: Progress) -> Callable[[int, str], None]:
    return lambda rows, doing: progress(f"{doing} {what}", rows)


def _counted(batches: _Rows, count: Callable[[int, str], None], doing: str) -> Iterator[Sequence[tuple[Any, ...]]]:
    rows = 0
    for batch in batches:
        yield batch
        rows += len(batch)
        count(rows, doing)

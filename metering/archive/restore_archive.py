"""Bring archived rows back into the database: one stream, or the whole archive."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.archive.columns import JOURNAL_COLUMNS, STREAM_COLUMNS
from metering.archive.manifest import JOURNAL, STREAMS, Manifest, check_files, read_manifest
from metering.archive.parquet_files import read_rows
from metering.archive.queries import count_requests
from metering.archive.store import forget_archive, put_back, put_back_requests
from metering.archive.write_archive import ArchiveRefusedError
from metering.core.errors import MeteringError
from metering.db.engine import transaction
from metering.db.schema import ensure_journal_partitions
from metering.streams.store.archived import find_archived
from metering.streams.store.streams import StoredStream, join_stream, read_streams

_Row = tuple[Any, ...]


class NotArchivedError(MeteringError):
    """The stream is not in the archive, or it is in the database already."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What is back in the database. `late` streams had got events since; they are billed again by themselves."""

    streams: int
    late: int
    requests: int


def restore_stream(
    *,
    owner: Engine,
    folder: Path,
    customer_id: str,
    stream_id: str,
    abandon_after: timedelta,
    by: Author,
    now: datetime,
) -> Restored:
    """Bring one stream back. Its requests stay in the archive.

    Raises:
        DamagedArchiveError: a file of the archive is missing or was changed.
        NotArchivedError: the stream is not in the archive, or it is in the database already.
    """
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    wanted = {"customer_id": customer_id, "stream_id": stream_id}
    rows = [row for batch in read_rows(folder / STREAMS, STREAM_COLUMNS, where=wanted) for row in batch]
    with transaction(owner) as connection:
        restored = _put_back(connection, manifest, rows, abandon_after)
        if not restored.streams:
            raise NotArchivedError(
                f"stream {stream_id!r} of customer {customer_id!r} is not in {folder}, or it is in the database"
                " already"
            )
        _log(connection, f"{manifest.archive_id} {customer_id}/{stream_id}", restored, by, now)
    return restored


def restore_archive(
    *,
    owner: Engine,
    folder: Path,
    abandon_after: timedelta,
    by: Author,
    now: datetime,
    progress: Callable[[int], None] = lambda _: None,
) -> Restored:
    """Bring everything back that the archive holds: afterwards the database is as if it had not been archived.

    The journal comes first, then streams, a batch a transaction: if this is interrupted, run it again.

    Raises:
        ArchiveRefusedError: the journal has a part of the month.
        DamagedArchiveError: a file of the archive is missing or was changed.
    """
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    requests = _restore_journal(owner, folder, manifest)
    streams = late = seen = 0
    for batch in read_rows(folder / STREAMS, STREAM_COLUMNS):
        with transaction(owner) as connection:
            restored = _put_back(connection, manifest, batch, abandon_after)
        streams, late, seen = streams + restored.streams, late + restored.late, seen + len(batch)
        progress(seen)
    whole = Restored(streams, late, requests)
    with transaction(owner) as connection:
        forget_archive(connection, manifest.archive_id)
        _log(connection, manifest.archive_id, whole, by, now)
    return whole


def _restore_journal(owner: Engine, folder: Path, manifest: Manifest) -> int:
    ensure_journal_partitions(owner, now=manifest.received_from)
    with transaction(owner) as connection:
        stored = count_requests(connection, from_=manifest.received_from, before=manifest.received_before)
        if stored == (manifest.request_count, manifest.event_count):
            return 0
        if stored != (0, 0):
            raise ArchiveRefusedError(
                f"the journal has {stored[0]:,} requests of {manifest.archive_id}, the archive"
                f" {manifest.request_count:,}: it was not removed by this archive"
            )
        batches = read_rows(folder / JOURNAL, JOURNAL_COLUMNS)
        put_back_requests(connection, (row for batch in batches for row in batch))
    return manifest.request_count


def _put_back(
    connection: Connection, manifest: Manifest, rows: Sequence[_Row], abandon_after: timedelta
) -> Restored:
    """Put back those of these streams that are archived, each joined with what arrived for it since."""
    found = find_archived(connection, [(row[0], row[1]) for row in rows])
    archived = {key for key, archive_id in found.items() if archive_id == manifest.archive_id}
    wanted = [row for row in rows if (row[0], row[1]) in archived]
    if not wanted:
        return Restored(0, 0, 0)
    late = read_streams(connection, sorted(archived), lock=True)
    put_back(connection, manifest.archive_id, wanted)
    for each in late:
        _join(connection, each, abandon_after)
    return Restored(len(wanted), len(late), 0)


def _join(connection: Connection, late: StoredStream, abandon_after: timedelta) -> None:
    at = late.last_received_at
    join_stream(connection, late.facts, first_received_at=at, received_at=at, abandon_after=abandon_after)


def _log(connection: Connection, subject: str, restored: Restored, by: Author, now: datetime) -> None:
    log_action(
        connection, by=by, now=now, kind="archive", action="restore", subject=subject, after=asdict(restored)
    )

"""Remove from the database what an archive holds: its streams, and its month of the journal."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from psycopg.errors import LockNotAvailable
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.archive.columns import STREAM_COLUMNS, place_of
from metering.archive.manifest import STREAMS, Manifest, check_files, manifest_sha256, read_manifest
from metering.archive.parquet_files import read_rows
from metering.archive.queries import count_requests
from metering.archive.store import begin_removal, complete_removal, remove_streams
from metering.archive.write_archive import ArchiveRefusedError
from metering.core.errors import MeteringError
from metering.db.engine import transaction

_KEY = tuple(
    place_of(STREAM_COLUMNS, name) for name in ("customer_id", "stream_id", "last_received_at", "revision")
)


class JournalInUseError(MeteringError):
    """The month's partition cannot be dropped while it is read. Removing the archive again goes on from there."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed. `changed` streams are not as they were archived, or were removed before: they stay."""

    manifest: Manifest
    streams: int
    changed: int


def remove_archived(
    *, owner: Engine, folder: Path, by: Author, now: datetime, progress: Callable[[int], None] = lambda _: None
) -> Removed:
    """Remove what the archive in this folder holds. `owner` is the login that owns the tables.

    The files are compared with their checksums before. Each batch of streams is a transaction, and the journal
    goes last: if this is interrupted, run it again. `progress` is called with the number of streams looked at.

    Raises:
        ArchiveRefusedError: the month of the journal is not as it was archived, or another archive of it was used.
        DamagedArchiveError: a file of the archive is missing or was changed.
        JournalInUseError: something reads the journal for longer than the login waits for a lock.
    """
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    sha256 = manifest_sha256(folder)
    with transaction(owner) as connection:
        _check_journal(
            manifest, *count_requests(connection, from_=manifest.received_from, before=manifest.received_before)
        )
        if begin_removal(connection, manifest, sha256=sha256, now=now) != sha256:
            raise ArchiveRefusedError(
                f"{manifest.archive_id} was archived before, with another manifest than the one in {folder}"
            )
    seen = removed = 0
    for batch in read_rows(folder / STREAMS, STREAM_COLUMNS):
        with transaction(owner) as connection:
            keys = (tuple(row[place] for place in _KEY) for row in batch)
            removed += remove_streams(connection, manifest.archive_id, keys)
        seen += len(batch)
        progress(seen)
    after = {"streams": removed, "requests": manifest.request_count, "manifest_sha256": sha256}
    try:
        with transaction(owner) as connection:
            complete_removal(connection, manifest.archive_id, now=now)
            log_action(
                connection,
                by=by,
                now=now,
                kind="archive",
                action="remove",
                subject=manifest.archive_id,
                after=after,
            )
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise JournalInUseError(
                f"the streams of {manifest.archive_id} are removed; its journal is in use, such as by an audit:"
                " run `metering archive remove` again"
            ) from error
        raise
    return Removed(manifest, removed, seen - removed)


def _check_journal(manifest: Manifest, requests: int, events: int) -> None:
    """Check that the month is as it was archived; it is empty if the removal was interrupted at its very end."""
    archived = (manifest.request_count, manifest.event_count)
    if (requests, events) not in (archived, (0, 0)):
        raise ArchiveRefusedError(
            f"the journal of {manifest.archive_id} has {requests:,} requests with {events:,} events, the archive"
            f" {archived[0]:,} with {archived[1]:,}: write it again"
        )

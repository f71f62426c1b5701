"""Read archives beside the database: which of them it needs to be whole, their requests, and their streams."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection

from metering.archive.columns import JOURNAL_COLUMNS, STREAM_COLUMNS
from metering.archive.manifest import (
    JOURNAL,
    STREAMS,
    DamagedArchiveError,
    Manifest,
    check_files,
    manifest_sha256,
    read_manifest,
)
from metering.archive.parquet_files import has_time, read_rows
from metering.archive.queries import list_archives
from metering.core.errors import MeteringError
from metering.events.events import StreamEnd, StreamStart
from metering.events.queries import Arrival, JournaledRequest
from metering.events.wire.bodies import pack_body
from metering.streams.stream import Delivered, StreamFacts, Winner

_Event = TypeVar("_Event", StreamStart, StreamEnd)


class ArchivesMissingError(MeteringError):
    """The folders are not those of the archives that the database was moved to; the message names the months."""


@dataclass(frozen=True, slots=True)
class OpenArchive:
    """An archive whose files are whole. `is_complete`: its requests are no longer in the database."""

    folder: Path
    manifest: Manifest
    is_complete: bool


def open_archives(connection: Connection, folders: Sequence[Path]) -> tuple[OpenArchive, ...]:
    """The archives in these folders, oldest month first: all that the database knows, and no others.

    Raises:
        ArchivesMissingError: a folder is missing, or is of an archive that was not removed from the database.
        DamagedArchiveError: a file is missing or was changed.
    """
    known = {each.archive_id: each for each in list_archives(connection)}
    found: dict[str, OpenArchive] = {}
    for folder in folders:
        manifest = read_manifest(folder)
        view = known.get(manifest.archive_id)
        if view is None:
            raise ArchivesMissingError(f"{folder}: nothing of {manifest.archive_id} was removed from the database")
        if view.manifest_sha256 != manifest_sha256(folder):
            raise DamagedArchiveError(f"{folder} is another archive of {manifest.archive_id} than the one removed")
        check_files(manifest, folder)
        found[manifest.archive_id] = OpenArchive(folder, manifest, view.completed_at is not None)
    if missing := sorted(known.keys() - found.keys()):
        raise ArchivesMissingError(f"name the folders of all archives: {', '.join(missing)} too")
    return tuple(found[each] for each in sorted(found))


def archived_requests(archive: OpenArchive) -> Iterator[JournaledRequest]:
    """The requests of an archive, in order of arrival, as the journal had them."""
    for batch in read_rows(archive.folder / JOURNAL, JOURNAL_COLUMNS):
        for row in batch:
            received_at, journal_id, ingest_key_id, media_type, event_count, rejected, hashes, body = row
            yield JournaledRequest(
                arrival=Arrival(received_at, journal_id),
                ingest_key_id=ingest_key_id,
                media_type=media_type,
                event_count=event_count,
                rejected=rejected or (),
                stream_hashes=hashes,
                packed_body=pack_body(body),
            )


def archived_streams(archive: OpenArchive) -> Iterator[list[dict[str, Any]]]:
    """The streams of an archive in batches, each with its columns by name; JSON stays text."""
    names = [column.name for column in STREAM_COLUMNS]
    for batch in read_rows(archive.folder / STREAMS, STREAM_COLUMNS):
        yield [dict(zip(names, row, strict=True)) for row in batch]


def archived_facts(row: Mapping[str, Any]) -> StreamFacts:
    """The joined facts of a stream of `archived_streams`.

    Raises:
        msgspec.DecodeError: a column holds a value that no stream can have.
    """
    delivered = None
    if row["delivered_seq"] is not None:
        delivered = Delivered(
            row["delivered_seq"], row["delivered_output_tokens"], row["delivered_reasoning_tokens"]
        )
    return StreamFacts(
        customer_id=row["customer_id"],
        stream_id=row["stream_id"],
        last_event_at=row["last_event_at"],
        start=_winner(row, "start", row["started_at"], StreamStart),
        delivered=delivered,
        end=_winner(row, "end", row["ended_at"], StreamEnd),
        clock_ahead_seconds=row["clock_ahead_seconds"],
    )


def _winner(row: Mapping[str, Any], name: str, at: datetime | None, kind: type[_Event]) -> Winner[_Event] | None:
    if at is None:
        return None
    # The attributes as they are: a float would not hold every number in them.
    key = msgspec.json.encode({"customer_id": row["customer_id"], "stream_id": row["stream_id"], "time": at})
    return Winner(
        event=msgspec.json.decode(key[:-1] + b"," + row[f"{name}_data"].encode()[1:], type=kind),
        fingerprint=row[f"{name}_fingerprint"],
        conflicting=row[f"{name}_conflicting"],
        received_at=row[f"{name}_received_at"],
    )


def has_archived_request_at(archives: Sequence[OpenArchive], received_at: datetime) -> bool:
    """Whether a request of one of these archives arrived at exactly this time."""
    return any(
        has_time(each.folder / JOURNAL, "received_at", received_at)
        for each in archives
        if each.manifest.received_from <= received_at < each.manifest.received_before
    )

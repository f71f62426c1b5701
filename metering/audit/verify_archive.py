"""Verify an archive from its files alone: its streams follow from its events. No database is needed."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from metering.archive.manifest import DamagedArchiveError, check_files, read_manifest
from metering.archive.read_archive import OpenArchive, archived_facts, archived_requests, archived_streams
from metering.audit.difference import Difference, field_claims, stream_key, unequal
from metering.audit.journaled import JournalFold, join_records, write_journaled
from metering.audit.receipt import Check
from metering.audit.scratch import ScratchWriter, take_records
from metering.streams.stream import StreamFacts, join

_STREAMS_PER_PART = 20_000
_MAX_PARTS = 256
_JOURNALED, _STORED = "journaled", "stored"


class _Stored(msgspec.Struct):
    facts: StreamFacts
    is_whole: bool


_decode_stored = msgspec.msgpack.Decoder(_Stored).decode


def verify_archive(folder: Path) -> list[Check]:
    """Check the files of an archive against its manifest, and each stream against the events.

    A stream that began in an earlier month has facts from there, so its events here must add nothing to them.

    Raises:
        DamagedArchiveError: the folder is no archive that this release can read.
    """
    manifest = read_manifest(folder)
    try:
        check_files(manifest, folder)
    except DamagedArchiveError as error:
        return [Check("the files have the checksums of the manifest", str(error))]
    archive = OpenArchive(folder, manifest, is_complete=True)
    fold = JournalFold()
    parts = min(_MAX_PARTS, 1 + manifest.stream_count // _STREAMS_PER_PART)
    with TemporaryDirectory(prefix="metering-verify-") as scratch:
        streams = _spread(archive, fold, Path(scratch), parts)
        differences = [each for part in range(parts) for each in _compare(Path(scratch), part)]
    found = (fold.requests, fold.events, streams)
    counted = (manifest.request_count, manifest.event_count, manifest.stream_count)
    return [
        Check("the files have the checksums of the manifest", None),
        Check(
            "requests, events and streams are as many as the manifest says",
            None if found == counted else f"{found}, and the manifest says {counted}",
        ),
        Check("every request can be read, and is found by its streams", _first_of(fold.differences)),
        Check("every stream has the facts that follow from its events", _first_of(differences)),
    ]


def _spread(archive: OpenArchive, fold: JournalFold, scratch: Path, parts: int) -> int:
    """Fold the events, and write both kinds of streams to files by part; return how many streams are stored."""
    with ScratchWriter(scratch, task=_JOURNALED, parts=parts) as writer:
        write_journaled(writer, fold, archived_requests(archive))
    streams = 0
    with ScratchWriter(scratch, task=_STORED, parts=parts) as writer:
        for batch in archived_streams(archive):
            for row in batch:
                is_whole = row["first_received_at"] >= archive.manifest.received_from
                stored = _Stored(archived_facts(row), is_whole)
                writer.add(row["customer_id"], row["stream_id"], msgspec.msgpack.encode(stored))
            streams += len(batch)
    return streams


def _compare(scratch: Path, part: int) -> Iterator[Difference]:
    """The streams of a part that do not follow from their events."""
    journaled = join_records(take_records(scratch, task=_JOURNALED, part=part))
    for record in take_records(scratch, task=_STORED, part=part):
        stored = _decode_stored(record)
        key = (stored.facts.customer_id, stored.facts.stream_id)
        own = journaled.get(key)
        if own is None:
            if stored.is_whole:
                yield Difference("streams", stream_key(*key), "the journal has no event of this stream")
            continue
        derived = own.facts if stored.is_whole else join(stored.facts, own.facts)
        yield from unequal("streams", stream_key(*key), field_claims(stored.facts, derived))


def _first_of(differences: list[Difference]) -> str | None:
    if not differences:
        return None
    first, more = differences[0], len(differences) - 1
    return f"{first.key}: {first.says}" + (f", and {more:,} more" if more else "")

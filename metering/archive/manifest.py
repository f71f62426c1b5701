"""The manifest of an archive: which month it is, what its files hold, and their checksums."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from metering.core.errors import MeteringError
from metering.core.folders import checksum, read_record, write_synced
from metering.core.period import BillingPeriod, InvalidPeriodError

MANIFEST, JOURNAL, STREAMS = "manifest.json", "journal.parquet", "streams.parquet"
FORMAT = 1


class DamagedArchiveError(MeteringError):
    """The archive is not whole, or was changed; the message names the file."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds: requests that arrived in [received_from, received_before), and streams.

    `archive_id` is the month, `files` the size in bytes and SHA-256 by name. It was read from the database at
    `taken_at`.
    """

    format: int = FORMAT
    archive_id: str
    release: str
    schema_version: str
    taken_at: datetime
    received_from: datetime
    received_before: datetime
    request_count: int
    event_count: int
    stream_count: int
    files: Mapping[str, tuple[int, str]]

    @property
    def total_bytes(self) -> int:
        """The size of the files, in bytes."""
        return sum(size for size, _ in self.files.values())


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write the manifest, and sync it."""
    write_synced(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an archive.

    Raises:
        DamagedArchiveError: there is none, or this release cannot read it.
    """
    manifest = read_record(folder / MANIFEST, Manifest, of="archive", damaged=DamagedArchiveError)
    if manifest.format != FORMAT:
        raise DamagedArchiveError(
            f"{folder} has format {manifest.format}, this release reads {FORMAT}: use release {manifest.release}"
        )
    try:
        BillingPeriod.parse(manifest.archive_id)
    except InvalidPeriodError as error:
        raise DamagedArchiveError(f"{folder / MANIFEST}: archive_id: {error}") from error
    return manifest


def manifest_sha256(folder: Path) -> str:
    """The SHA-256 of the manifest, by which the database knows the archive."""
    return checksum(folder / MANIFEST)[1]


def checksums(folder: Path, *, progress: Callable[[int], None] = lambda _: None) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each data file that is there, by name. `progress` gets the bytes of each part."""
    paths = (folder / JOURNAL, folder / STREAMS)
    return {path.name: checksum(path, progress=progress) for path in paths if path.is_file()}


def check_files(manifest: Manifest, folder: Path, *, progress: Callable[[int], None] = lambda _: None) -> None:
    """Check that the files are those of the manifest.

    Raises:
        DamagedArchiveError: a file is missing or was changed.
    """
    found = checksums(folder, progress=progress)
    for name, expected in manifest.files.items():
        if name not in found:
            raise DamagedArchiveError(f"{folder / name} is missing: the archive is not whole")
        if found[name] != expected:
            raise DamagedArchiveError(f"{folder / name} was changed since the archive was written")

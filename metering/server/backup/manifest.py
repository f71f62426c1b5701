"""The manifest of a backup: what it holds, from when, and the checksum of each file."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from metering.core.errors import MeteringError
from metering.core.folders import checksum, read_record, sync, write_synced

MANIFEST = "manifest.json"
DUMP = "dump"
FORMAT = 1


class BackupFailedError(MeteringError):
    """The backup was not made; nothing is left of it."""


class DamagedBackupError(MeteringError):
    """The backup is not whole, or was changed; the message names the file."""


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A role of the server that the database needs. `verifier` is what PostgreSQL keeps of its password.

    None means that it has no password, or that the login that made the backup may not read it.
    """

    name: str
    can_login: bool
    connection_limit: int = -1
    verifier: str | None = None
    settings: Sequence[str] = ()
    member_of: Sequence[str] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. `rows` are by table, `files` the size in bytes and SHA-256 by path in the backup.

    The snapshot was taken at `taken_at`, by the database's clock, when its log was written up to `lsn`.
    """

    format: int = FORMAT
    release: str
    schema_version: str
    server_version: int
    encoding: str
    taken_at: datetime
    lsn: str
    owner: str
    roles: Sequence[Role]
    rows: Mapping[str, int]
    files: Mapping[str, tuple[int, str]]

    @property
    def total_rows(self) -> int:
        """The number of rows in all tables."""
        return sum(self.rows.values())

    @property
    def total_bytes(self) -> int:
        """The size of the files, in bytes."""
        return sum(size for size, _ in self.files.values())


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write the manifest and sync it with its folder."""
    # It has verifiers of passwords, also where the folder is copied to one that others can read.
    write_synced(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    sync(folder)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup.

    Raises:
        DamagedBackupError: there is none, or this release cannot read it.
    """
    manifest = read_record(folder / MANIFEST, Manifest, of="backup", damaged=DamagedBackupError)
    if manifest.format != FORMAT:
        raise DamagedBackupError(
            f"{folder} has format {manifest.format}, this release reads {FORMAT}: restore it with release"
            f" {manifest.release}"
        )
    return manifest


def checksums(folder: Path, *, progress: Callable[[int], None] = lambda _: None) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each file of the dump, by its path; `progress` is called with the bytes of each part."""
    found = {}
    for path in sorted((folder / DUMP).rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = checksum(path, progress=progress)
    return found


def check_files(manifest: Manifest, folder: Path, *, progress: Callable[[int], None]) -> None:
    """Check that the files are those of the manifest.

    Raises:
        DamagedBackupError: a file is missing, was changed, or does not belong to the backup.
    """
    found = checksums(folder, progress=progress)
    for name in sorted({*found, *manifest.files}):
        if name not in found:
            raise DamagedBackupError(f"{folder / name} is missing: the backup is not whole")
        if name not in manifest.files:
            raise DamagedBackupError(f"{folder / name} does not belong to the backup")
        if found[name] != manifest.files[name]:
            raise DamagedBackupError(f"{folder / name} was changed since the backup was made")

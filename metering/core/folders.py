"""Folders of files that are made whole or not at all, and checksums by which a copy is known to be whole."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from metering.core.errors import MeteringError

RecordT = TypeVar("RecordT")

_CHUNK_BYTES = 1 << 20


class FolderError(MeteringError):
    """A folder cannot be made; nothing is left of it."""


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill. It gets its name, durably, when the block ends; if the block raises, it is removed.

    What a killed process leaves is beside the target and named `….partial-…`.

    Raises:
        FolderError: the target exists, or its parent cannot be written to.
    """
    target = target.absolute()
    if target.exists():
        raise FolderError(f"{target} exists: name a folder that does not")
    partial = target.with_name(f"{target.name}.partial-{secrets.token_hex(4)}")
    try:
        partial.mkdir(mode=0o700)
    except OSError as error:
        raise FolderError(f"{target.parent} cannot be written: {error.strerror}") from error
    try:
        yield partial
        sync(partial)
        os.rename(partial, target)
        sync(target.parent)
    finally:
        if partial.exists():
            shutil.rmtree(partial, ignore_errors=True)


def read_record(path: Path, kind: type[RecordT], *, of: str, damaged: type[MeteringError]) -> RecordT:
    """The record in a JSON file of a folder; `of` says what kind of folder it is to be.

    Raises:
        MeteringError: of the kind `damaged`: the file is not there, or holds no such record.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise damaged(f"{path.parent} is no {of}: {path.name}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise damaged(f"{path} cannot be read: {error}") from error


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, and sync it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Make the content of a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: Path, *, progress: Callable[[int], None] = lambda _: None) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file; `progress` is called with the bytes of each part."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            progress(len(chunk))
    return size, digest.hexdigest()

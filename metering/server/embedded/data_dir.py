"""The data folder of the embedded servers, locked by one process at a time."""

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from metering.core.errors import MeteringError

_ANNOUNCEMENT = "running.json"

ROOT_DATA_DIR = Path("/var/lib/metering")


class DataDirInUseError(MeteringError):
    """Another process uses this data folder."""


class DataDirUnusableError(MeteringError):
    """The data folder cannot be created, or the database's user cannot reach it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The URLs of the running servers; the database login is a superuser.

    `stripe_url` is the local stand-in for Stripe, if one runs.
    """

    database_url: str
    redis_url: str
    stripe_url: str | None = None


def default_data_dir() -> Path:
    """`/var/lib/metering` for root, otherwise the platform's folder for user data."""
    return ROOT_DATA_DIR if os.geteuid() == 0 else platformdirs.user_data_path("metering")


@contextmanager
def locked_data_dir(path: Path, *, note: str) -> Iterator[Path]:
    """Create the folder if it is missing, and lock it against other processes until the block ends.

    Other processes see `note` in their error, to know what runs here. A crash of this process releases the lock.

    Raises:
        DataDirInUseError: names the process that holds the lock.
        DataDirUnusableError: the folder cannot be created or written.
    """
    path = path.expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            # PostgreSQL's user needs to traverse the folder; apart from that an existing folder keeps its mode.
            path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IXGRP | stat.S_IXOTH)
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DataDirUnusableError(
            f"{path} cannot be used: {error.strerror}; choose another with --data"
        ) from error
    try:
        _lock(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}, {note}".encode(), 0)
        yield path
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def ephemeral_data_dir() -> Iterator[Path]:
    """A new, locked folder that is removed with its content when the block ends."""
    path = Path(tempfile.mkdtemp(prefix="metering-"))
    try:
        with locked_data_dir(path, note="ephemeral"):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def socket_dir() -> Iterator[Path]:
    """A new folder with a short path, for sockets: a socket's path is limited to about 100 bytes."""
    path = Path(tempfile.mkdtemp(prefix="mtr-", dir="/tmp" if os.access("/tmp", os.W_OK) else None))
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(path)


# A socket's path is limited to 103 bytes on macOS and 107 on Linux; the name of PostgreSQL's takes 14.
_MAX_SOCKET_DIR = 86


@contextmanager
def fixed_socket_dir(data: Path, name: str) -> Iterator[Path]:
    """A new folder for sockets in a locked data folder, at the same path each time: connections are saved.

    Where that path is too long for a socket, a folder as of `socket_dir`.
    """
    path = data / name
    if len(os.fsencode(path)) > _MAX_SOCKET_DIR:
        with socket_dir() as elsewhere:
            yield elsewhere
        return
    # What a crash has left: the lock says that no process uses it.
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def check_not_running(path: Path) -> None:
    """Refuse a data folder that another process has locked. It is not created.

    Raises:
        DataDirInUseError: names the process that holds the lock.
    """
    path = path.expanduser().absolute()
    with contextlib.suppress(OSError):
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            _lock(descriptor, path)
        finally:
            os.close(descriptor)


@contextmanager
def announced(path: Path, services: Services) -> Iterator[None]:
    """Announce the servers that run on this folder to other commands of the same user, until the block ends."""
    announcement = path / _ANNOUNCEMENT
    announcement.touch(mode=0o600)
    announcement.write_text(json.dumps(asdict(services)))
    try:
        yield
    finally:
        announcement.unlink(missing_ok=True)


def find_running(path: Path) -> Services | None:
    """The servers that run on this folder; None when none run, or when they belong to another user."""
    try:
        found = json.loads((path / _ANNOUNCEMENT).read_text())
        with locked_data_dir(path, note="looking"):
            return None  # the lock is free, so the announcement was left by a crash
    except DataDirInUseError:
        return Services(**found)
    except (OSError, ValueError, DataDirUnusableError):
        return None


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
        raise DataDirInUseError(
            f"{path} is in use by {holder}: stop that process first, or choose another folder with --data"
        ) from error

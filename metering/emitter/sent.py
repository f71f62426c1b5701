"""Events that the server has acknowledged, kept compressed for a while: a restored server may have lost them.

    spool/sent/1764406800123-4711-9f3c2a1b-00000001.ndjson.gz    when they were acknowledged, in ms

`metering-emitter resend` sends them again (`resend.py`).
"""

import contextlib
import gzip
import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metering.emitter.reports import ErrorLog

log = logging.getLogger(__name__)

FOLDER = "sent"
_SUFFIX = ".ndjson.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentFile:
    """A file of events, and when they were acknowledged, in seconds of the Unix epoch, by the gateway's clock."""

    path: Path
    acknowledged_at: float
    size: int


class SentEvents:
    """What one emitter keeps, for use by its sender. With `seconds` 0 it keeps nothing.

    The oldest files are removed when they are older than `seconds`, or when all together exceed `max_bytes`.
    """

    def __init__(self, root: Path, *, seconds: float, max_bytes: int) -> None:
        self._folder = root / FOLDER
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._errors = ErrorLog(log)
        self._files = deque(sent_files(root)) if seconds > 0 else deque()
        self._bytes = sum(file.size for file in self._files)
        self._number = 0
        self._name = f"{os.getpid()}-{os.urandom(4).hex()}"

    def keep(self, lines: Sequence[bytes]) -> None:
        """Keep acknowledged events. If the disk fails, they are not kept; the log says so."""
        if self._seconds <= 0 or not lines:
            return
        now = time.time()
        self._number += 1
        path = self._folder / f"{int(now * 1000):013d}-{self._name}-{self._number:08d}{_SUFFIX}"
        data = gzip.compress(b"\n".join(lines) + b"\n", compresslevel=1)
        try:
            _write(path, data)
        except OSError as error:
            self._errors.error("acknowledged events are not kept: %s", error, count=len(lines))
            return
        self._files.append(SentFile(path=path, acknowledged_at=now, size=len(data)))
        self._bytes += len(data)
        self._prune(now)

    def _prune(self, now: float) -> None:
        while self._files:
            oldest = self._files[0]
            age = now - oldest.acknowledged_at
            if age <= self._seconds and self._bytes <= self._max_bytes:
                return
            if age <= self._seconds:
                self._errors.error(
                    "acknowledged events are kept for %.1f hours only: their files reach the bound of %d bytes",
                    age / 3600,
                    self._max_bytes,
                )
            self._files.popleft()
            self._bytes -= oldest.size
            # Another process of the same spool may have removed it.
            with contextlib.suppress(OSError):
                oldest.path.unlink(missing_ok=True)


def sent_files(root: Path) -> list[SentFile]:
    """The files that are kept in a spool, by the time of their acknowledgement."""
    return sorted(_found(root / FOLDER), key=lambda file: (file.acknowledged_at, file.path.name))


def read_sent(file: SentFile) -> list[bytes] | None:
    """The events of a file; None if it has been removed meanwhile.

    Raises:
        OSError, EOFError: the file cannot be read.
    """
    try:
        return [line for line in gzip.decompress(file.path.read_bytes()).split(b"\n") if line]
    except FileNotFoundError:
        return None


def _found(folder: Path) -> Iterator[SentFile]:
    for path in folder.glob(f"*{_SUFFIX}"):
        milliseconds = path.name.partition("-")[0]
        if milliseconds.isdecimal():
            with contextlib.suppress(FileNotFoundError):
                yield SentFile(path=path, acknowledged_at=int(milliseconds) / 1000, size=path.stat().st_size)


def _write(path: Path, data: bytes) -> None:
    """Write a file that has its name only when it is whole."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
        partial.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise

"""A segment: up to 1,000 events that are sent together, in a file, or in memory if the disk fails."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True, kw_only=True, eq=False)
class Segment:
    """Events in the file `path`, or in `lines` if they could not be written."""

    path: Path | None
    inherited: bool = False
    lines: tuple[bytes, ...] = ()
    count: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The events of a segment, and the `damaged` lines of its file."""

    lines: Sequence[bytes]
    damaged: Sequence[bytes]


def read_segment(segment: Segment) -> Contents:
    """The events of a segment. A file of a dead process may end in the middle of a line.

    Raises:
        OSError: the file cannot be read.
    """
    if segment.path is None:
        return Contents(lines=segment.lines, damaged=())
    lines = [line for line in segment.path.read_bytes().split(b"\n") if line]
    if not segment.inherited:
        return Contents(lines=lines, damaged=())
    verdicts = [_is_object(line) for line in lines]
    return Contents(
        lines=[line for line, good in zip(lines, verdicts, strict=True) if good],
        damaged=[line for line, good in zip(lines, verdicts, strict=True) if not good],
    )


def inherited_segment(path: Path) -> Segment:
    """The segment in a file that another process wrote."""
    data = path.read_bytes()
    count = sum(1 for line in data.split(b"\n") if line)
    return Segment(path=path, inherited=True, count=count, size=len(data))


class SegmentWriter:
    """Appends batches to one new segment file; a batch is on disk when `append` returns."""

    def __init__(self, path: Path) -> None:
        self.segment = Segment(path=path)
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            _sync_folder(path.parent)
        except OSError:
            self.close()
            self.remove()
            raise

    def append(self, lines: Sequence[bytes]) -> None:
        """Write and sync the lines.

        Raises:
            OSError: the disk failed; the file is unchanged.
        """
        data = memoryview(b"\n".join(lines) + b"\n")
        try:
            while data:
                data = data[os.write(self._fd, data) :]
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self.segment.size)
            raise
        self.segment.count += len(lines)
        self.segment.size += sum(len(line) + 1 for line in lines)

    def close(self) -> None:
        os.close(self._fd)

    def remove(self) -> None:
        """Delete the file, which has no events."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False

"""The spool: events on disk, from before they are posted until the server has acknowledged them.

    spool/
      .lock                    held for the moment in which folders are made or taken over
      rejected.ndjson          what the server refused, each with its reason
      4711-9f3c2a1b/           one process; its `lock` is held while that process lives
        lock  00000001.ndjson  00000002.ndjson  ...

A process that starts takes over the folders of dead ones. Sizes are bounded for each process.
"""

import contextlib
import itertools
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from metering.core.errors import MeteringError
from metering.emitter.locks import FileLock
from metering.emitter.segments import Segment, SegmentWriter, inherited_segment

log = logging.getLogger(__name__)

# What may wait in memory when the disk refuses to take it.
_MAX_MEMORY_BYTES = 64 << 20


class SpoolError(MeteringError):
    """The spool folder cannot be used; the message names it."""


class Spool:
    """The spool folder of one emitter. Methods are safe to call from its two threads and from `stats`."""

    def __init__(self, *, root: Path, soft_bytes: int, hard_bytes: int, segment_events: int) -> None:
        self._root = root
        self._soft_bytes = soft_bytes
        self._hard_bytes = hard_bytes
        self._segment_events = segment_events
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._writer: SegmentWriter | None = None
        self._memory_bytes = 0
        self._finishing = False
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / ".lock"):
                self._folder, self._lock = _make_own_folder(root)
                waiting = self._take_over_abandoned()
        except OSError as error:
            raise SpoolError(f"the spool folder {root} cannot be used: {error}. Name another one") from error
        self._waiting = deque(waiting)
        self.inherited_events = sum(segment.count for segment in waiting)
        self._events = self.inherited_events
        self._bytes = sum(segment.size for segment in waiting)

    @property
    def pending_events(self) -> int:
        """Events that the server has not answered for."""
        return self._events

    def append(self, *, needed: Sequence[bytes], spare: Sequence[bytes]) -> int:
        """Write events to disk; returns how many found no room.

        Beyond the soft bound `spare` ones are refused, beyond the hard bound all. When the disk itself refuses,
        they wait in memory instead.
        """
        with self._changed:
            lines = self._fitting(needed, self._hard_bytes) + self._fitting(spare, self._soft_bytes)
            refused = len(needed) + len(spare) - len(lines)
            for start in range(0, len(lines), self._segment_events):
                refused += self._write(lines[start : start + self._segment_events])
            self._changed.notify()
            return refused

    def claim(self, *, timeout: float) -> Segment | None:
        """The oldest segment, to be sent, and then `remove`d or `give_back`; None when there is none in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._writer is not None or self._finishing, timeout)
            if not self._waiting:
                self._seal()
            return self._waiting.popleft() if self._waiting else None

    def finish(self) -> None:
        """Nothing more will be appended: `claim` need not wait."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    def give_back(self, segment: Segment) -> None:
        """Not sent: keep it for the next attempt."""
        with self._changed:
            self._waiting.appendleft(segment)

    def remove(self, segment: Segment) -> None:
        """The server has answered for all of it."""
        with self._changed:
            self._events -= segment.count
            if segment.path is None:
                self._memory_bytes -= segment.size
                return
            self._bytes -= segment.size
            # A file that stays is sent again by the next process, which is harmless.
            with contextlib.suppress(OSError):
                segment.path.unlink(missing_ok=True)

    def set_aside(self, *, lines: Sequence[bytes], reason: str) -> bool:
        """Keep refused events, with the reason, for a person to look at; False when that is not possible."""
        path = self._root / "rejected.ndjson"
        entries = [json.dumps({"reason": reason, "event": line.decode(errors="replace")}) for line in lines]
        data = "".join(f"{entry}\n" for entry in entries).encode()
        try:
            # One write in append mode, so that processes that share the file do not mix their lines.
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                if os.fstat(fd).st_size + len(data) > self._hard_bytes:
                    return False
                return os.write(fd, data) == len(data)
            finally:
                os.close(fd)
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the folder, so that another process may take over what is left in it."""
        with self._changed:
            self._seal()
            if self._memory_bytes:
                log.error("usage events that the disk refused are lost with this process")
            # Under the common lock, so that no starting process looks into a folder that is going away.
            with contextlib.suppress(OSError), FileLock(self._root / ".lock"):
                if all(segment.path is None for segment in self._waiting):
                    _clear_folder(self._folder)
            self._lock.release()

    def _fitting(self, lines: Sequence[bytes], bound: int) -> list[bytes]:
        """As many lines as the bound allows; what is taken counts at once."""
        taken: list[bytes] = []
        for line in lines:
            if self._bytes + len(line) + 1 > bound:
                break
            self._bytes += len(line) + 1
            taken.append(line)
        return taken

    def _write(self, lines: list[bytes]) -> int:
        size = sum(len(line) + 1 for line in lines)
        try:
            if self._writer is not None and self._writer.segment.count + len(lines) > self._segment_events:
                self._seal()
            if self._writer is None:
                self._writer = SegmentWriter(self._next_path())
            self._writer.append(lines)
        except OSError as error:
            self._bytes -= size
            return self._hold_in_memory(lines, size, error)
        self._events += len(lines)
        return 0

    def _hold_in_memory(self, lines: list[bytes], size: int, error: OSError) -> int:
        log.error("the spool folder %s refuses usage events, which wait in memory: %s", self._folder, error)
        self._seal()
        if self._memory_bytes + size > _MAX_MEMORY_BYTES:
            return len(lines)
        self._memory_bytes += size
        self._events += len(lines)
        self._waiting.append(Segment(path=None, lines=tuple(lines), count=len(lines), size=size))
        return 0

    def _seal(self) -> None:
        """The file being written takes no more: it may be sent."""
        if self._writer is None:
            return
        self._writer.close()
        if self._writer.segment.count:
            self._waiting.append(self._writer.segment)
        self._writer = None

    def _next_path(self) -> Path:
        return self._folder / f"{next(self._numbers):08d}.ndjson"

    def _take_over_abandoned(self) -> list[Segment]:
        """Move the segments of processes that are gone into our folder, and clear theirs away."""
        segments: list[Segment] = []
        for folder in sorted(path for path in self._root.iterdir() if path.is_dir() and path != self._folder):
            lock = FileLock(folder / "lock")
            if not lock.try_acquire():
                continue
            for path in sorted(folder.glob("*.ndjson")):
                segments.append(inherited_segment(path.rename(self._next_path())))
            _clear_folder(folder)
            lock.release()
        return segments


def _make_own_folder(root: Path) -> tuple[Path, FileLock]:
    folder = root / f"{os.getpid()}-{os.urandom(4).hex()}"
    folder.mkdir(mode=0o700)
    lock = FileLock(folder / "lock")
    lock.acquire()
    return folder, lock


def _clear_folder(folder: Path) -> None:
    """Remove a folder and its lock, unless a person left something else in it."""
    with contextlib.suppress(OSError):
        (folder / "lock").unlink(missing_ok=True)
        folder.rmdir()

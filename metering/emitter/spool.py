"""The spool: events on disk until the server has acknowledged them.

    spool/
      .lock                    held while folders are created or taken over
      rejected.ndjson          the events that the server rejected, with the reasons
      sent/                    acknowledged events, if they are kept (sent.py)
      4711-9f3c2a1b/           one process, which holds `lock` while it lives
        lock  00000001.ndjson  00000002.ndjson  ...

A starting process takes over the folders of dead ones. The size is bounded per process.
"""

import contextlib
import fcntl
import itertools
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from metering.core.errors import MeteringError
from metering.emitter.reports import Troubles
from metering.emitter.segments import Segment, SegmentWriter, inherited_segment
from metering.emitter.sent import FOLDER as SENT

log = logging.getLogger(__name__)

_DISK = "disk"
# The events that wait in memory when the disk fails.
_MAX_MEMORY_BYTES = 64 << 20


class SpoolError(MeteringError):
    """The spool folder cannot be used; the message names it."""


class FileLock:
    """An exclusive `flock`, which the system releases when the process dies. Creates the file if needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Wait for the lock, and take it."""
        self._fd = self._locked(fcntl.LOCK_EX)

    def try_acquire(self) -> bool:
        """Take the lock; False if another process holds it."""
        try:
            self._fd = self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _locked(self, operation: int) -> int:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, operation)
        except OSError:
            os.close(fd)
            raise
        return fd

    def __enter__(self) -> "FileLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Spool:
    """The spool folder of one emitter. Its two threads and `stats` can call all methods."""

    def __init__(self, *, root: Path, soft_bytes: int, hard_bytes: int, segment_events: int) -> None:
        self._root = root
        self._soft_bytes = soft_bytes
        self._hard_bytes = hard_bytes
        self._segment_events = segment_events
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._troubles = Troubles(log)
        self._writer: SegmentWriter | None = None
        self._memory_bytes = 0
        self._finishing = False
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / ".lock"):
                self._folder, self._lock = _make_own_folder(root)
                waiting = self._take_over_abandoned()
        except OSError as error:
            raise SpoolError(f"the spool folder {root} cannot be used: {error}. Choose another one") from error
        self._waiting = deque(waiting)
        self.inherited_events = sum(segment.count for segment in waiting)
        self._events = self.inherited_events
        self._bytes = sum(segment.size for segment in waiting)

    @property
    def pending_events(self) -> int:
        """The number of events that the server has not answered for."""
        return self._events

    def append(self, *, needed: Sequence[bytes], spare: Sequence[bytes]) -> int:
        """Write events to disk; returns the number of those that there was no room for.

        Above the soft bound, `spare` events are refused, above the hard bound all. If the disk fails, they wait in
        memory.
        """
        with self._changed:
            lines = self._fitting(needed, self._hard_bytes) + self._fitting(spare, self._soft_bytes)
            refused = len(needed) + len(spare) - len(lines)
            for start in range(0, len(lines), self._segment_events):
                refused += self._write(lines[start : start + self._segment_events])
            self._changed.notify()
            return refused

    def claim(self, *, timeout: float) -> Segment | None:
        """The oldest segment, to be sent and then removed or given back; None if there is none in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._writer is not None or self._finishing, timeout)
            if not self._waiting:
                self._seal()
            return self._waiting.popleft() if self._waiting else None

    def finish(self) -> None:
        """Called after the last `append`: `claim` no longer waits."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    def give_back(self, segment: Segment) -> None:
        """Return a segment that was not sent."""
        with self._changed:
            self._waiting.appendleft(segment)

    def remove(self, segment: Segment) -> None:
        """Delete a segment that the server has answered for."""
        with self._changed:
            self._events -= segment.count
            if segment.path is None:
                self._memory_bytes -= segment.size
                return
            self._bytes -= segment.size
            # If the file stays, the next process sends it again, which is harmless.
            with contextlib.suppress(OSError):
                segment.path.unlink(missing_ok=True)

    def set_aside(self, *, lines: Sequence[bytes], reason: str) -> bool:
        """Append rejected events with the reason to rejected.ndjson; False if that is not possible."""
        path = self._root / "rejected.ndjson"
        entries = [json.dumps({"reason": reason, "event": line.decode(errors="replace")}) for line in lines]
        data = "".join(f"{entry}\n" for entry in entries).encode()
        try:
            # One write in append mode: processes that share the file do not mix their lines.
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
        """Release the folder; another process may take over its events."""
        with self._changed:
            self._seal()
            if self._memory_bytes:
                log.error("usage events in memory are lost: the disk failed, and the process ends")
            # The common lock keeps starting processes from reading a folder that is being removed.
            with contextlib.suppress(OSError), FileLock(self._root / ".lock"):
                if all(segment.path is None for segment in self._waiting):
                    _clear_folder(self._folder)
            self._lock.release()

    def disown(self) -> None:
        """In a forked child: close the copies of the parent's open files. Files and lock stay the parent's.

        No lock of this object is taken: a thread that the child does not have may hold it.
        """
        if self._writer is not None:
            self._writer.close()
        self._lock.release()

    def _fitting(self, lines: Sequence[bytes], bound: int) -> list[bytes]:
        """As many lines as the bound allows; counts their bytes at once."""
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
        self._troubles.passes(_DISK, "usage events are written to disk again")
        return 0

    def _hold_in_memory(self, lines: list[bytes], size: int, error: OSError) -> int:
        message = "cannot write to the spool folder %s, usage events wait in memory: %s"
        self._troubles.arises(_DISK, type(error).__name__, message, self._folder, error)
        self._seal()
        if self._memory_bytes + size > _MAX_MEMORY_BYTES:
            return len(lines)
        self._memory_bytes += size
        self._events += len(lines)
        self._waiting.append(Segment(path=None, lines=tuple(lines), count=len(lines), size=size))
        return 0

    def _seal(self) -> None:
        """Close the current file, so that it can be sent."""
        if self._writer is None:
            return
        self._writer.close()
        if self._writer.segment.count:
            self._waiting.append(self._writer.segment)
        else:
            self._writer.remove()
        self._writer = None

    def _next_path(self) -> Path:
        return self._folder / f"{next(self._numbers):08d}.ndjson"

    def _take_over_abandoned(self) -> list[Segment]:
        """Move the segments of dead processes into the own folder, and remove their folders."""
        segments: list[Segment] = []
        others = {path for path in self._root.iterdir() if path.is_dir()} - {self._folder, self._root / SENT}
        for folder in sorted(others):
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
    """Remove a folder and its lock, unless it has other files."""
    with contextlib.suppress(OSError):
        (folder / "lock").unlink(missing_ok=True)
        folder.rmdir()

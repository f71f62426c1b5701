"""An advisory lock on a file, which the operating system lets go of when its process dies."""

import fcntl
import os
from pathlib import Path
from types import TracebackType


class FileLock:
    """An exclusive `flock`. The file is made when it does not exist."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Wait until no other process holds it."""
        self._fd = self._locked(fcntl.LOCK_EX)

    def try_acquire(self) -> bool:
        """Take it unless someone holds it."""
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

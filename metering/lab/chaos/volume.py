"""A small disk that can be full: a tmpfs of its own, whose size is cut to what is used.

It needs the right to mount. Where that is missing, the run has no full disk, and its report says why.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

# So that a run of hours fits; only pages in use take memory.
_SHARE_OF_MEMORY = 0.6
# PostgreSQL can still write this much when the disk "is full": a page of a log, not a segment.
_LEFT_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A folder. `why_not` says why it cannot be full; None when it can."""

    path: Path
    why_not: str | None
    size: int

    def fill(self) -> int:
        """Leave no room; returns the bytes that are used."""
        found = os.statvfs(self.path)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        self._resize(used + _LEFT_BYTES)
        return used

    def free(self) -> None:
        """Give the room back."""
        self._resize(self.size)

    def _resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.path)], check=True, capture_output=True)


@contextmanager
def volume() -> Iterator[Volume]:
    """A new volume that is removed with its content when the block ends."""
    path = Path(tempfile.mkdtemp(prefix="metering-chaos-"))
    size = int(psutil.virtual_memory().total * _SHARE_OF_MEMORY)
    why_not = _mount(path, size)
    path.chmod(0o755)
    try:
        yield Volume(path=path, why_not=why_not, size=size)
    finally:
        if why_not is None:
            subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)
            path.rmdir()


def _mount(path: Path, size: int) -> str | None:
    """Mount a tmpfs; returns why that is not possible."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        return f"mount: {error.strerror}"
    return None if done.returncode == 0 else done.stderr.strip() or f"mount exited with {done.returncode}"

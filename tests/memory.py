"""Temporary folders in memory, where there is room.

To drop a database on a disk takes longer than most tests. The servers run with the settings of the product, and
what a kill leaves is the same in both places.
"""

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM_BYTES = 6 * 2**30


def in_memory() -> bool:
    """Whether new temporary folders are in memory."""
    return Path(tempfile.gettempdir()).is_relative_to(MEMORY)


def use_memory() -> None:
    """Put temporary folders there, also those of child processes. pytest's own stay on disk: it keeps them."""
    if in_memory() or not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        return
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None

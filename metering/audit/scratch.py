"""Scratch files of an audit: all records of one stream are in files of the same part.

Several processes write at the same time, each task into files of its own, so that none waits for another.
"""

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from metering.events.store import stream_hash

_SIZE = struct.Struct("<I")


class ScratchWriter:
    """The files of one task, one for each of `parts` parts; a context manager that closes them."""

    def __init__(self, folder: Path, *, task: str, parts: int) -> None:
        self._open = ExitStack()
        self._files = [
            self._open.enter_context(_path(folder, task, part).open("wb", buffering=1 << 16))
            for part in range(parts)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, customer_id: str, stream_id: str, record: bytes) -> None:
        """Add a record to the file of its stream's part."""
        file = self._files[stream_hash(customer_id, stream_id) % len(self._files)]
        file.write(_SIZE.pack(len(record)))
        file.write(record)


def take_records(folder: Path, *, task: str, part: int) -> Iterator[bytes]:
    """The records that a task has added to a part, in their order. Deletes the file once it is read."""
    path = _path(folder, task, part)
    with path.open("rb", buffering=1 << 20) as file:
        while head := file.read(_SIZE.size):
            yield file.read(_SIZE.unpack(head)[0])
    path.unlink()


def _path(folder: Path, task: str, part: int) -> Path:
    return folder / f"{task}-{part:03d}"

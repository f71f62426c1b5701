"""A spool: records set down in files by what stream they are of, so that a part at a time fits into memory."""

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from metering.events.store import stream_hash

_HEAD = struct.Struct("<BI")


class Spool:
    """Records of several kinds, of which those of one stream are always in one part; gone with its folder."""

    def __init__(self, folder: Path, *, parts: int) -> None:
        self._paths = [folder / f"part-{number:03d}" for number in range(parts)]
        self._open = ExitStack()
        self._files = [self._open.enter_context(path.open("wb", buffering=1 << 16)) for path in self._paths]

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, customer_id: str, stream_id: str, *, kind: int, record: bytes) -> None:
        """Set one record down."""
        file = self._files[stream_hash(customer_id, stream_id) % len(self._files)]
        file.write(_HEAD.pack(kind, len(record)))
        file.write(record)

    def parts(self) -> Iterator[Iterator[tuple[int, bytes]]]:
        """Part after part, (kind, record) in their order; a file is deleted once it is read."""
        self._open.close()
        for path in self._paths:
            yield _records(path)
            path.unlink()


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb", buffering=1 << 20) as file:
        while head := file.read(_HEAD.size):
            kind, size = _HEAD.unpack(head)
            yield kind, file.read(size)

"""The copy of one answer, as its client is shown it, until it is written to Valkey."""

import math
from collections.abc import Callable
from enum import IntEnum

import msgspec

from metering.gateway.resume.sealing import Secret

# Smaller pieces make more entries, larger ones hold up the event loop.
_PIECE_BYTES = 64 << 10
_FIRST_ERROR = 400

Headers = list[tuple[bytes, bytes]]


class Kind(IntEnum):
    """What a piece is: status and headers, some of the body, or the end."""

    BEGINNING = 0
    BODY = 1
    END = 2


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The first entry: which completion it is, and of which request."""

    stream_id: str
    request_hash: str


class Beginning(msgspec.Struct, frozen=True, array_like=True):
    """An answer's status and headers."""

    status: int
    headers: Headers


class Copy:
    """What is added here is written soon. `on_change` is called when there is something to write, or to delete.

    A copy that is no longer kept takes nothing. `read_at` is the time at which a client that came back was last
    known to read it.
    """

    def __init__(
        self,
        *,
        secret: Secret,
        owner: bytes,
        max_bytes: int,
        on_change: "Callable[[Copy], None]",
        on_drop: "Callable[[Copy, str], None]",
    ) -> None:
        self.place = secret.place
        self.owner = owner
        self.is_kept = True
        self.has_ended = False
        self.read_at = -math.inf
        self._secret = secret
        self._left = max_bytes
        self._on_change = on_change
        self._on_drop = on_drop
        self._number = 0
        self._waiting: list[tuple[Kind, bytes]] = []

    def start(self, status: int, headers: Headers) -> None:
        """The answer begins. An error is not kept: the client is to ask again."""
        if status >= _FIRST_ERROR:
            self.drop("")
            return
        self._add(Kind.BEGINNING, msgspec.msgpack.encode(Beginning(status, headers)))

    def add(self, body: bytes) -> None:
        """The client is shown some of the body."""
        self._add(Kind.BODY, body)

    def end(self, body: bytes = b"") -> None:
        """The client is shown the last of the body."""
        if body:
            self._add(Kind.BODY, body)
        self._add(Kind.END, b"")
        self.has_ended = self.is_kept

    def drop(self, why: str) -> None:
        """Keep it no more; nothing happens if it has ended or was dropped."""
        if self.is_kept and not self.has_ended:
            self.forget()
            self._on_drop(self, why)

    def forget(self) -> None:
        """It is no longer in Valkey."""
        self.is_kept = False
        self._waiting.clear()

    def take(self) -> list[tuple[int, bytes]]:
        """What waits to be written, sealed, with the number of each piece."""
        taken, self._waiting = self._waiting, []
        pieces: list[tuple[int, bytes]] = []
        body: list[bytes] = []
        for kind, content in [*taken, (None, b"")]:
            if kind is Kind.BODY:
                body.append(content)
                continue
            whole = b"".join(body)
            body.clear()
            pieces += (
                self._seal(Kind.BODY, whole[at : at + _PIECE_BYTES]) for at in range(0, len(whole), _PIECE_BYTES)
            )
            if kind is not None:
                pieces.append(self._seal(kind, content))
        return pieces

    def _add(self, kind: Kind, content: bytes) -> None:
        if not self.is_kept or self.has_ended:
            return
        self._left -= len(content)
        if self._left < 0:
            self.drop("too_large")
            return
        self._waiting.append((kind, content))
        self._on_change(self)

    def _seal(self, kind: Kind, content: bytes) -> tuple[int, bytes]:
        self._number += 1
        return self._number, self._secret.seal(self.owner, self._number, bytes([kind]) + content)

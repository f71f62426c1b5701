"""What an emitter has done so far, counted under one lock and read as a frozen snapshot."""

import threading
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitterStats:
    """Events by what became of them.

    Once closed: emitted + inherited = coalesced + sent + rejected + dropped + spooled.
    """

    emitted: int = 0
    """Handed to `emit`."""
    inherited: int = 0
    """Found in the spool of a process that died."""
    coalesced: int = 0
    """Left out because a later event of the same stream carries higher counters."""
    spooled: int = 0
    """In the spool now, not acknowledged yet."""
    sent: int = 0
    """Acknowledged by the server."""
    rejected: int = 0
    """Refused by the server for good; kept in rejected.ndjson."""
    dropped: int = 0
    """Lost: no room in the queue or in the spool, or emitted after `close`."""
    retries: int = 0
    """Requests that have to be repeated."""


class Counters:
    """A mutable `EmitterStats`, safe to add to from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = dict.fromkeys((field.name for field in fields(EmitterStats)), 0)

    def add(self, **amounts: int) -> None:
        with self._lock:
            for name, amount in amounts.items():
                self._values[name] += amount

    def snapshot(self, *, spooled: int) -> EmitterStats:
        with self._lock:
            return replace(EmitterStats(**self._values), spooled=spooled)

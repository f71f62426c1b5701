"""What an emitter reports: counts of its events, and error lines that cannot flood the log."""

import logging
import threading
import time
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Protocol, TypeVar

_QUIET_SECONDS = 10.0
_MAX_KINDS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitterStats:
    """The number of events by what happened to them.

    Once closed: emitted + inherited = coalesced + sent + rejected + dropped + spooled.
    """

    emitted: int = 0
    """Passed to `emit`."""
    inherited: int = 0
    """Found in the spool of a dead process."""
    coalesced: int = 0
    """Left out because a later event of the same stream carries higher counters."""
    spooled: int = 0
    """In the spool now, not acknowledged."""
    sent: int = 0
    """Acknowledged by the server."""
    rejected: int = 0
    """Rejected by the server for good; kept in rejected.ndjson."""
    dropped: int = 0
    """Lost: no room in the queue or in the spool, or emitted after `close`."""
    retries: int = 0
    """Requests that had to be repeated."""


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


StatsT = TypeVar("StatsT", bound=_Dataclass)


class Counters(Generic[StatsT]):
    """Mutable stats that any thread can add to: a dataclass whose fields are all counts."""

    def __init__(self, stats: type[StatsT]) -> None:
        self._stats = stats
        self._lock = threading.Lock()
        self._values = dict.fromkeys((field.name for field in fields(stats)), 0)

    def add(self, **amounts: int) -> None:
        with self._lock:
            for name, amount in amounts.items():
                self._values[name] += amount

    def snapshot(self, **now: int) -> StatsT:
        """The counts so far; those in `now` are not counted up but known."""
        with self._lock:
            return self._stats(**{**self._values, **now})


class Troubles:
    """Says a trouble once when it begins, once when it changes its kind, and once when it is over."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        # By what it is about: its kind, and since when.
        self._open: dict[str, tuple[str, float]] = {}

    def arises(self, about: str, kind: str, message: str, *args: object) -> None:
        """There is a trouble; nothing is said if it is known."""
        with self._lock:
            known = self._open.get(about)
            if known is not None and known[0] == kind:
                return
            self._open[about] = (kind, known[1] if known is not None else time.monotonic())
        self._log.error(message, *args)

    def passes(self, about: str, message: str) -> None:
        """There is none; says so, and how long it lasted, if there was one."""
        with self._lock:
            known = self._open.pop(about, None)
        if known is not None:
            self._log.warning("%s, after %.0f s", message, time.monotonic() - known[1])


class ErrorLog:
    """Logs an error at once, and the same message again only after ten seconds, with the count since then."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._unlogged: dict[str, int] = {}

    def error(self, message: str, *args: object, count: int = 1) -> None:
        now = time.monotonic()
        with self._lock:
            unlogged = self._unlogged.get(message, 0) + count
            if message in self._last and now - self._last[message] < _QUIET_SECONDS:
                self._unlogged[message] = unlogged
                return
            if len(self._last) >= _MAX_KINDS:
                self._last.clear()
                self._unlogged.clear()
            self._last[message] = now
            self._unlogged[message] = 0
        self._log.error(f"{message} (%d since the last such line)", *args, unlogged)

"""Error lines that cannot flood the log: each kind every few seconds at most, with its count."""

import logging
import threading
import time

_QUIET_SECONDS = 10.0
_MAX_KINDS = 64


class Loudly:
    """Logs an error at once, then the same kind only every ten seconds, with how often it happened since."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def error(self, message: str, *args: object, count: int = 1) -> None:
        now = time.monotonic()
        with self._lock:
            unsaid = self._unsaid.get(message, 0) + count
            if message in self._last and now - self._last[message] < _QUIET_SECONDS:
                self._unsaid[message] = unsaid
                return
            if len(self._last) >= _MAX_KINDS:
                self._last.clear()
                self._unsaid.clear()
            self._last[message] = now
            self._unsaid[message] = 0
        self._log.error(f"{message} (%d since the last such line)", *args, unsaid)

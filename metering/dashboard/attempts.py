"""Attempts to sign in, counted by address, so that nobody can try keys for long."""

import threading
from collections import OrderedDict
from time import monotonic

_MOST, _WITHIN_SECONDS = 10, 60.0
_MAX_ADDRESSES = 10_000


class Attempts:
    """Failures of each address within a minute; the newest ten thousand addresses are remembered."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, address: str) -> int:
        """How long an address has to wait before it may try again; 0 when it need not."""
        with self._lock:
            failures = self._recent(address)
            if len(failures) < _MOST:
                return 0
            return max(1, round(failures[0] + _WITHIN_SECONDS - monotonic()))

    def failed(self, address: str) -> None:
        """It tried a key that is none."""
        with self._lock:
            self._failures[address] = [*self._recent(address), monotonic()]
            self._failures.move_to_end(address)
            while len(self._failures) > _MAX_ADDRESSES:
                self._failures.popitem(last=False)

    def _recent(self, address: str) -> list[float]:
        since = monotonic() - _WITHIN_SECONDS
        return [at for at in self._failures.get(address, ()) if at > since][-_MOST:]

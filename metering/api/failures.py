"""Failed attempts of each address: after a number of them, each further one is answered late."""

from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic

_WINDOW_SECONDS = 60.0
_FREE = 20
_LATE_SECONDS = 1.0
_MAX_ADDRESSES = 10_000


class Failures:
    """Counts failed attempts of the ten thousand most recent addresses. A right key is never counted."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._at: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, address: str) -> float:
        """Count a failure; returns how many seconds its answer has to wait."""
        now = self._clock()
        failed = self._at.setdefault(address, deque(maxlen=_FREE + 1))
        failed.append(now)
        self._at.move_to_end(address)
        while len(self._at) > _MAX_ADDRESSES:
            self._at.popitem(last=False)
        return _LATE_SECONDS if len(failed) > _FREE and now - failed[0] < _WINDOW_SECONDS else 0.0

"""What may pass while the service cannot be asked: an amount in any minute, by what streams probably cost."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from decimal import Decimal

from metering.emitter.hold import HoldRequest, HoldSettings

_MINUTE = 60.0
# Amounts are added up by parts of a minute, so that many small streams take no more room than few large ones.
_PART_SECONDS = 1.0
_MOST_MODELS = 1_000
_ZERO = Decimal(0)


class Allowance:
    """The amount of the last minute. Any thread may use it."""

    def __init__(self, settings: HoldSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = settings.fail_open_usd_cents_per_minute
        self._per_stream = settings.fail_open_usd_cents_per_stream
        self._clock = clock
        self._lock = threading.Lock()
        self._passed: deque[tuple[float, Decimal]] = deque()
        self._held: OrderedDict[tuple[str, str], Decimal] = OrderedDict()

    def note(self, request: HoldRequest, held: Decimal) -> None:
        """Note what a hold of this model holds: the next stream of it probably costs about the same."""
        key = (request.provider, request.model)
        with self._lock:
            self._held[key] = held
            self._held.move_to_end(key)
            if len(self._held) > _MOST_MODELS:
                self._held.popitem(last=False)

    def take(self, request: HoldRequest) -> bool:
        """Whether the stream may pass without a hold; it counts if so."""
        if self._most is None:
            return False
        now = self._clock()
        with self._lock:
            # The oldest part counts until all of it is older than a minute.
            while self._passed and now - self._passed[0][0] >= _MINUTE + _PART_SECONDS:
                self._passed.popleft()
            amount = self._held.get((request.provider, request.model), self._per_stream)
            if sum((each for _, each in self._passed), start=amount) > self._most:
                return False
            if self._passed and now - self._passed[-1][0] < _PART_SECONDS:
                began, passed = self._passed.pop()
                self._passed.append((began, passed + amount))
            elif amount > _ZERO:
                self._passed.append((now, amount))
            return True

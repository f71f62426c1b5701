"""Limits of a key: requests and events a second, and requests in progress. Each API process counts for itself."""

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from time import monotonic

from prometheus_client import Counter

from metering.access.keys import Key, KeyLimits
from metering.core.errors import MeteringError

REQUESTS_LIMITED = Counter(
    "metering_requests_limited",
    "Requests refused with 429, by limit: concurrent, requests, events, reads (no turn for this key), queue",
    ["limit"],
)

# Idle for a second, a key may catch up by as much as it may send in this time.
_BURST_SECONDS = 1.0
_MAX_KEYS = 10_000


class TooManyRequestsError(MeteringError):
    """This key sends more than it may, or more than its share while others wait."""

    def __init__(self, detail: str, *, limit: str, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds
        REQUESTS_LIMITED.labels(limit).inc()


class _Bucket:
    """What may be sent now, refilled at a rate. Once overdrawn, it is closed until that is paid."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._level, self._at = rate, rate * _BURST_SECONDS, now

    def seconds_until_open(self, rate: float, now: float) -> float:
        """How long the bucket is still closed; 0 if it is open. The rate may have changed."""
        self._level = min(self._level + (now - self._at) * rate, rate * _BURST_SECONDS)
        self._rate, self._at = rate, now
        return max(0.0, -self._level / rate) if self._level < 0 else 0.0

    def take(self, amount: float) -> None:
        self._level -= amount


class _Usage:
    """The counters of one key."""

    def __init__(self) -> None:
        self.in_progress = 0
        self.buckets: dict[str, _Bucket] = {}


class KeyLimiter:
    """Counts the requests of each key. A key's own limits replace the `defaults`."""

    def __init__(self, defaults: KeyLimits, *, clock: Callable[[], float] = monotonic) -> None:
        self._defaults = defaults
        self._clock = clock
        self._usage: OrderedDict[str, _Usage] = OrderedDict()

    def enter(self, key: Key) -> None:
        """Count a request; call `leave` when it is answered.

        Raises:
            TooManyRequestsError: the key is at one of its limits; nothing was counted.
        """
        usage = self._of(key)
        limit = key.limits.concurrent_requests or self._defaults.concurrent_requests
        if limit is not None and usage.in_progress >= limit:
            raise TooManyRequestsError(
                f"{limit} requests of this key are in progress, its limit: wait for their answers",
                limit="concurrent",
            )
        per_second = key.limits.requests_per_second or self._defaults.requests_per_second
        self._check(usage, "events", key.limits.events_per_second or self._defaults.events_per_second)
        self._check(usage, "requests", per_second)
        if per_second is not None:
            usage.buckets["requests"].take(1)
        usage.in_progress += 1

    def leave(self, key: Key) -> None:
        """The request was answered."""
        self._of(key).in_progress -= 1

    def count_events(self, key: Key, events: int) -> None:
        """Count the events of a request. More than the key may send delay its next requests, not this one."""
        if key.limits.events_per_second or self._defaults.events_per_second:
            bucket = self._of(key).buckets.get("events")
            if bucket is not None:
                bucket.take(events)

    def _check(self, usage: _Usage, what: str, rate: int | None) -> None:
        if rate is None:
            usage.buckets.pop(what, None)
            return
        now = self._clock()
        bucket = usage.buckets.setdefault(what, _Bucket(rate, now))
        wait = bucket.seconds_until_open(rate, now)
        if wait > 0:
            raise TooManyRequestsError(
                f"this key may send {rate} {what} a second: try again in {ceil(wait)} s",
                limit=what,
                retry_after_seconds=ceil(wait),
            )

    def _of(self, key: Key) -> _Usage:
        usage = self._usage.get(key.key_id)
        if usage is None:
            usage = self._usage[key.key_id] = _Usage()
            while len(self._usage) > _MAX_KEYS:
                self._forget_one()
        self._usage.move_to_end(key.key_id)
        return usage

    def _forget_one(self) -> None:
        idle = next((name for name, usage in self._usage.items() if not usage.in_progress), None)
        if idle is not None:
            del self._usage[idle]

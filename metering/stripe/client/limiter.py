"""A rate limit for calls to Stripe that all processes share: token buckets in Valkey, halved when throttled.

The buckets may be lost without harm. While Valkey is unavailable, each process limits itself to a small share.
Stripe's limits: https://docs.stripe.com/rate-limits.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from metering.stripe.client.errors import StripeThrottledError

# A bucket holds the calls of one second. A 429 halves the rate, which recovers within about 20 seconds.
_TAKE = """
local now = redis.call('TIME')
local at = tonumber(now[1]) + tonumber(now[2]) / 1e6
local wait = 0
for place, key in ipairs(KEYS) do
  local most = tonumber(ARGV[place])
  local bucket = redis.call('HMGET', key, 'tokens', 'at', 'rate')
  local rate = math.min(tonumber(bucket[3] or most), most)
  local since = math.max(at - tonumber(bucket[2] or at), 0)
  rate = math.min(most, rate + most * 0.05 * since)
  local tokens = math.min(math.max(rate, 1), tonumber(bucket[1] or math.max(rate, 1)) + since * rate)
  redis.call('HSET', key, 'tokens', tokens, 'at', at, 'rate', rate)
  redis.call('EXPIRE', key, 60)
  if tokens < 1 then wait = math.max(wait, (1 - tokens) / rate) end
end
if wait > 0 then return tostring(wait) end
for _, key in ipairs(KEYS) do redis.call('HINCRBYFLOAT', key, 'tokens', -1) end
return '0'
"""
_HALVE = """
for place, key in ipairs(KEYS) do
  local rate = tonumber(redis.call('HGET', key, 'rate') or ARGV[place])
  redis.call('HSET', key, 'rate', math.max(rate / 2, 1), 'tokens', 0)
  redis.call('EXPIRE', key, 60)
end
return 1
"""
_LONGEST_WAIT_SECONDS = 60.0
_WITHOUT_VALKEY_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Calls per second: in all, and to one endpoint."""

    in_all: float
    per_endpoint: float


class Limiter:
    """A limiter that the threads of a process share, and through Valkey all processes with the same `name`."""

    def __init__(
        self,
        *,
        redis: Redis,
        name: str,
        rates: Rates,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._take = redis.register_script(_TAKE)
        self._halve = redis.register_script(_HALVE)
        self._prefix = f"metering:stripe:{name}"
        self._rates = rates
        self._sleep = sleep
        self._local_lock = threading.Lock()
        self._next_local = 0.0

    def acquire(self, endpoint: str) -> None:
        """Wait until a call may be made.

        Raises:
            StripeThrottledError: no call was free within a minute.
        """
        waited = 0.0
        while waited < _LONGEST_WAIT_SECONDS:
            wait = self._ask(endpoint)
            if wait <= 0:
                return
            self._sleep(wait)
            waited += wait
        raise StripeThrottledError(f"{endpoint}: no call was free for {_LONGEST_WAIT_SECONDS:g} s")

    def throttled(self, endpoint: str) -> None:
        """Halve the rates after Stripe answered 429; they recover slowly."""
        try:
            self._halve(keys=self._keys(endpoint), args=self._args())
        except RedisError:
            self._sleep(1.0)

    def _ask(self, endpoint: str) -> float:
        """Take a token; 0.0 when there was one, else the seconds to wait before asking again."""
        try:
            return float(self._take(keys=self._keys(endpoint), args=self._args()))
        except RedisError:
            return self._ask_locally()

    def _ask_locally(self) -> float:
        """Space calls evenly, at a small share of the rate that leaves the rest to other processes."""
        with self._local_lock:
            now = time.monotonic()
            if now < self._next_local:
                return self._next_local - now
            self._next_local = now + 1 / (self._rates.per_endpoint * _WITHOUT_VALKEY_SHARE)
            return 0.0

    def _keys(self, endpoint: str) -> list[str]:
        return [self._prefix, f"{self._prefix}:{endpoint}"]

    def _args(self) -> list[float]:
        return [self._rates.in_all, self._rates.per_endpoint]

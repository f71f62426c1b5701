"""Limits on the rate of requests, as Stripe has them: in all, and to each endpoint. Off unless they are set.

What is refused did nothing and counts for nothing. https://docs.stripe.com/rate-limits
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from metering.lab.stripe_local.faults import throttled


@dataclass(slots=True)
class _Bucket:
    """A second's worth of tokens at most, filled evenly."""

    tokens: float
    at: float

    def fill(self, rate: float, now: float) -> bool:
        """Whether there is one, now."""
        self.tokens = min(max(rate, 1.0), self.tokens + (now - self.at) * rate)
        self.at = now
        return self.tokens >= 1


class RateLimits:
    """Requests a second, in all and to one endpoint; None is no limit. `clock` counts seconds."""

    def __init__(
        self,
        *,
        in_all: float | None = None,
        per_endpoint: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._begin = (in_all, per_endpoint)
        self._clock = clock
        self.set(in_all=in_all, per_endpoint=per_endpoint)

    def set(self, *, in_all: float | None = None, per_endpoint: float | None = None) -> None:
        """Other limits, from full buckets on.

        Raises:
            ValueError: one is not above zero.
        """
        for rate in (in_all, per_endpoint):
            if rate is not None and rate <= 0:
                raise ValueError(f"requests a second: {rate} is not above 0")
        self._in_all, self._per_endpoint = in_all, per_endpoint
        self._buckets: dict[str, _Bucket] = {}

    def reset(self) -> None:
        """As it was at first."""
        self.set(in_all=self._begin[0], per_endpoint=self._begin[1])

    def take(self, endpoint: str) -> None:
        """A request comes in.

        Raises:
            RefusedError: one too many, with the limit's name in a header.
        """
        limits = {"": (self._in_all, "global-rate"), endpoint: (self._per_endpoint, "endpoint-rate")}
        now = self._clock()
        taken = []
        for name, (rate, reason) in limits.items():
            if rate is None:
                continue
            bucket = self._buckets.setdefault(name, _Bucket(max(rate, 1.0), now))
            if not bucket.fill(rate, now):
                # Stripe's libraries do not send such a request again by themselves: more requests were no help.
                raise throttled({"stripe-rate-limited-reason": reason, "stripe-should-retry": "false"})
            taken.append(bucket)
        for bucket in taken:
            bucket.tokens -= 1

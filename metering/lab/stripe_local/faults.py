"""Why a request fails: a planned fault, or a rate limit like Stripe's, in total or per endpoint.

A refused request changes nothing and uses up no limit. https://docs.stripe.com/rate-limits
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from metering.lab.stripe_local.errors import RefusedError

_KIND_OF_STATUS = {
    401: "authentication_error",
    402: "card_error",
    403: "permission_error",
    409: "idempotency_error",
    429: "rate_limit_error",
}


class Fault(StrEnum):
    """The kinds of faults. "Kept" answers are stored under the idempotency key and given again."""

    THROTTLE = "throttle"  # 429 with retry headers
    THROTTLE_NO_HEADER = "throttle_no_header"
    ERROR_BEFORE = "error_before"  # 500 before the work, kept
    ERROR_AFTER = "error_after"  # 500 after the work, kept
    STORED_ERROR = "stored_error"  # the planned status before the work, kept
    LOST_REQUEST = "lost_request"  # closes the connection before the work
    LOST_REPLY = "lost_reply"  # closes the connection after the work
    SLOW = "slow"  # works after the planned seconds
    LOCK_TIMEOUT = "lock_timeout"  # 429 of the object's lock before the work, kept


@dataclass(slots=True, kw_only=True)
class PlannedFault:
    """A fault for the next `times` requests to an endpoint, or to any (`*`), after `skip` others."""

    endpoint: str
    fault: Fault
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    status: int = 500

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError(f"status: {self.status} is not an error status")


class Faults:
    """The planned faults, in the order in which they were planned."""

    def __init__(self) -> None:
        self._planned: list[PlannedFault] = []

    def plan(self, fault: PlannedFault) -> None:
        """Add a fault."""
        self._planned.append(fault)

    def clear(self) -> None:
        """Remove all faults."""
        self._planned.clear()

    def take(self, endpoint: str) -> PlannedFault | None:
        """The fault of this request, or None; counts it as used."""
        for planned in self._planned:
            if planned.endpoint not in (endpoint, "*"):
                continue
            if planned.skip:
                planned.skip -= 1
                continue
            planned.times -= 1
            if planned.times <= 0:
                self._planned.remove(planned)
            return planned
        return None


def raise_throttle(fault: Fault | None) -> None:
    """Fail like a rate limit, before the parameters are checked.

    Raises:
        RefusedError: 429, for the faults THROTTLE and THROTTLE_NO_HEADER.
    """
    if fault in (Fault.THROTTLE, Fault.THROTTLE_NO_HEADER):
        headers = {"retry-after": "1", "stripe-should-retry": "true"} if fault is Fault.THROTTLE else {}
        raise _throttled(headers)


def raise_before(planned: PlannedFault | None) -> None:
    """Fail with a kept answer before the work.

    Raises:
        RefusedError: for the faults LOCK_TIMEOUT, ERROR_BEFORE and STORED_ERROR.
    """
    match planned.fault if planned else None:
        case Fault.LOCK_TIMEOUT:
            raise RefusedError(
                "This object is locked; try again.",
                status=429,
                code="lock_timeout",
                headers={"stripe-should-retry": "true"},
            )
        case Fault.ERROR_BEFORE:
            raise internal_error()
        case Fault.STORED_ERROR:
            assert planned is not None
            kind = "api_error" if planned.status >= 500 else "invalid_request_error"
            raise RefusedError(
                "A fault was planned.", status=planned.status, kind=_KIND_OF_STATUS.get(planned.status, kind)
            )


def _throttled(headers: dict[str, str]) -> RefusedError:
    """The 429 of a rate limit, which is not kept."""
    return RefusedError(
        "Request rate limit exceeded.",
        status=429,
        kind="rate_limit_error",
        code="rate_limit",
        kept=False,
        headers=headers,
    )


def internal_error() -> RefusedError:
    """A 500."""
    return RefusedError("An unknown error occurred.", status=500, kind="api_error")


@dataclass(slots=True)
class _Bucket:
    """A token bucket that holds the tokens of one second at most."""

    tokens: float
    at: float

    def fill(self, rate: float, now: float) -> bool:
        """Add the tokens since the last call; returns whether there is one now."""
        self.tokens = min(max(rate, 1.0), self.tokens + (now - self.at) * rate)
        self.at = now
        return self.tokens >= 1


class RateLimits:
    """Requests per second, in total and per endpoint; None is no limit. `clock` returns seconds."""

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
        """Change the limits, and start with full buckets.

        Raises:
            ValueError: a limit is not greater than zero.
        """
        for rate in (in_all, per_endpoint):
            if rate is not None and rate <= 0:
                raise ValueError(f"requests per second: {rate} is not greater than 0")
        self._in_all, self._per_endpoint = in_all, per_endpoint
        self._buckets: dict[str, _Bucket] = {}

    def reset(self) -> None:
        """Restore the limits of the start."""
        self.set(in_all=self._begin[0], per_endpoint=self._begin[1])

    def take(self, endpoint: str) -> None:
        """Count a request.

        Raises:
            RefusedError: 429, above a limit, which a header names.
        """
        limits = {"": (self._in_all, "global-rate"), endpoint: (self._per_endpoint, "endpoint-rate")}
        now = self._clock()
        taken = []
        for name, (rate, reason) in limits.items():
            if rate is None:
                continue
            bucket = self._buckets.setdefault(name, _Bucket(max(rate, 1.0), now))
            if not bucket.fill(rate, now):
                # Stripe tells its libraries not to retry these by themselves.
                raise _throttled({"stripe-rate-limited-reason": reason, "stripe-should-retry": "false"})
            taken.append(bucket)
        for bucket in taken:
            bucket.tokens -= 1

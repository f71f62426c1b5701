"""Faults on demand: how the next requests to an endpoint fail."""

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
    """What goes wrong. "Kept" means: remembered under the idempotency key, and given again."""

    THROTTLE = "throttle"  # 429, with a header that says to retry
    THROTTLE_NO_HEADER = "throttle_no_header"
    ERROR_BEFORE = "error_before"  # 500, nothing done, kept
    ERROR_AFTER = "error_after"  # 500, done, kept
    STORED_ERROR = "stored_error"  # the planned status, nothing done, kept
    LOST_REQUEST = "lost_request"  # nothing done, the connection closed
    LOST_REPLY = "lost_reply"  # done, the connection closed
    SLOW = "slow"  # after the planned seconds
    LOCK_TIMEOUT = "lock_timeout"  # 429 of the object's lock, nothing done, kept


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
            raise ValueError(f"status: {self.status} is not that of an error")


class Faults:
    """What is planned."""

    def __init__(self) -> None:
        self._planned: list[PlannedFault] = []

    def plan(self, fault: PlannedFault) -> None:
        """Have requests fail."""
        self._planned.append(fault)

    def clear(self) -> None:
        """Have no more fail."""
        self._planned.clear()

    def take(self, endpoint: str) -> PlannedFault | None:
        """The fault of this request, if one is planned."""
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
    """Fail as a limit does, before anything is looked at.

    Raises:
        RefusedError: the failure, for a fault that is one.
    """
    if fault in (Fault.THROTTLE, Fault.THROTTLE_NO_HEADER):
        told = {"retry-after": "1", "stripe-should-retry": "true"} if fault is Fault.THROTTLE else {}
        raise throttled(told)


def raise_before(planned: PlannedFault | None) -> None:
    """Fail as those do that do nothing, and are kept.

    Raises:
        RefusedError: the failure, for a fault that is one.
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


def throttled(headers: dict[str, str]) -> RefusedError:
    """A 429 of a limit, which nothing is remembered of."""
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

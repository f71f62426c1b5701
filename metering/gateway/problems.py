"""Errors of client and upstream, in the form that the SDKs of the endpoint's vendor read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from metering.core.errors import MeteringError
from metering.gateway.endpoints import Vendor

# Anthropic's types of errors, by status.
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error answer. `details` are for programs; the SDKs of both vendors show them."""

    status: int
    message: str
    type: str
    code: str
    param: str | None = None
    details: Mapping[str, Any] | None = None

    def body(self, vendor: Vendor = Vendor.OPENAI) -> bytes:
        """The vendor's error object as JSON."""
        if vendor is Vendor.ANTHROPIC:
            default = "invalid_request_error" if self.status < 500 else "api_error"
            type_ = _ANTHROPIC_TYPES.get(self.status, default)
            said: dict[str, Any] = {"type": type_, "message": self.message}
            if self.details is not None:
                said["details"] = {"error_code": self.code, **self.details}
            return msgspec.json.encode({"type": "error", "error": said})
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        if self.details:
            error["details"] = self.details
        return msgspec.json.encode({"error": error})

    def sse_event(self, vendor: Vendor = Vendor.OPENAI) -> bytes:
        """The error as an event of a stream that has begun; the vendor's SDKs raise it."""
        name = b"event: error\n" if vendor is Vendor.ANTHROPIC else b""
        return name + b"data: " + self.body(vendor) + b"\n\n"


class RefusedError(MeteringError):
    """The gateway refuses a request; nothing went upstream, so nothing is metered."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class UpstreamFailedError(MeteringError):
    """The upstream could not be reached or broke off; `timed_out` if it was silent for too long."""

    def __init__(self, problem: Problem, *, timed_out: bool = False) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.timed_out = timed_out


def refused(*, status: int, message: str, code: str, param: str | None = None) -> RefusedError:
    """The error for a request of the client that cannot be served."""
    return RefusedError(
        Problem(status=status, message=message, type="invalid_request_error", code=code, param=param)
    )


def upstream_failed(*, status: int, message: str, code: str, timed_out: bool = False) -> UpstreamFailedError:
    """The error for a failure of the upstream."""
    problem = Problem(status=status, message=message, type="upstream_error", code=code)
    return UpstreamFailedError(problem, timed_out=timed_out)

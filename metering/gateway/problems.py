"""What goes wrong between client and upstream, in the shape that OpenAI's SDKs read."""

from dataclasses import dataclass
from typing import Any

import msgspec

from metering.core.errors import MeteringError


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An answer that is an error."""

    status: int
    message: str
    type: str
    code: str
    param: str | None = None

    def body(self) -> bytes:
        """OpenAI's error object."""
        return msgspec.json.encode(self.document())

    def sse_event(self) -> bytes:
        """The same, within a stream that has begun already; stock SDKs raise it."""
        return b"data: " + self.body() + b"\n\n"

    def document(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class RefusedError(MeteringError):
    """The gateway answers by itself; no upstream was asked, so nothing is metered."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class UpstreamFailedError(MeteringError):
    """The upstream could not be reached, or broke off; `timed_out` when it was silent for too long."""

    def __init__(self, problem: Problem, *, timed_out: bool = False) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.timed_out = timed_out


def refused(*, status: int, message: str, code: str, param: str | None = None) -> RefusedError:
    """The client's request cannot be served."""
    return RefusedError(
        Problem(status=status, message=message, type="invalid_request_error", code=code, param=param)
    )


def upstream_failed(*, status: int, message: str, code: str, timed_out: bool = False) -> UpstreamFailedError:
    """The upstream did not do its part."""
    problem = Problem(status=status, message=message, type="upstream_error", code=code)
    return UpstreamFailedError(problem, timed_out=timed_out)

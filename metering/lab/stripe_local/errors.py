"""Refusals, as Stripe words them."""

from collections.abc import Mapping
from typing import Any


class RefusedError(Exception):
    """An error for an answer. `kept`: whether it is remembered under the idempotency key; `headers` never are."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        kept: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kept = kept
        self.headers = headers or {}
        self._error = {"message": message, "type": kind, "code": code, "param": param}

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": {name: value for name, value in self._error.items() if value is not None}}


def invalid(message: str, *, code: str, param: str) -> RefusedError:
    """A parameter is wrong: refused before anything was begun, and so not remembered."""
    return RefusedError(message, code=code, param=param, kept=False)


def missing(kind: str, object_id: str, *, param: str) -> RefusedError:
    """There is no such object."""
    return RefusedError(f"No such {kind}: '{object_id}'", status=404, code="resource_missing", param=param)

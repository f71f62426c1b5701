"""Errors in Stripe's wording and form."""

from collections.abc import Mapping
from typing import Any


class RefusedError(Exception):
    """An error answer. `kept`: it is stored under the idempotency key, without its `headers`."""

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
    """The error for a bad parameter. Stripe does not keep it, because no work was started."""
    return RefusedError(message, code=code, param=param, kept=False)


def missing(kind: str, object_id: str, *, param: str) -> RefusedError:
    """The error for an object that does not exist."""
    return RefusedError(f"No such {kind}: '{object_id}'", status=404, code="resource_missing", param=param)

"""Hooks that never raise into the gateway that calls them."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from metering.emitter.reports import ErrorLog

_errors = ErrorLog(logging.getLogger(__name__))

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


def guarded(hook: Callable[P, ResultT]) -> Callable[P, ResultT | None]:
    """The hook, which logs what goes wrong in it: metering never breaks a request."""

    @functools.wraps(hook)
    def call(*args: P.args, **kwargs: P.kwargs) -> ResultT | None:
        try:
            return hook(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the gateway goes on, whatever it was
            _errors.error("a call through a gateway is not metered as it should be: %r", error)
            return None

    return call

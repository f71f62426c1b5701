"""The id of the request that is being answered: for its answer, the lines that it logs, and the audit log."""

import re
from contextvars import ContextVar
from random import getrandbits

REQUEST_ID_HEADER = "x-request-id"
# What clients may choose: safe in a header, in a line of a log and on a page.
_WELL_FORMED = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def request_id_of(given: str | None) -> str:
    """The id that a client gave its request, or a new one if it is not well-formed.

    >>> request_id_of("trace-7")
    'trace-7'
    """
    if given is not None and _WELL_FORMED.fullmatch(given):
        return given
    # No secret: it only has to differ from others.
    return f"req_{getrandbits(64):016x}"


def enter_request(given: str | None) -> str:
    """Begin to answer a request, in a task of its own; returns its id."""
    request_id = request_id_of(given)
    _current.set(request_id)
    return request_id


def current_request_id() -> str | None:
    """The id of the request that this task or thread works for; None outside of requests."""
    return _current.get()

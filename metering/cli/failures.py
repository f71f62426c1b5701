"""How a command that fails ends: one sentence for stderr, and an exit code of those in docs/operations.md."""

import re
from dataclasses import dataclass

import psycopg
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from metering.core.errors import MeteringError
from metering.db.engine import DatabaseUnavailableError, will_pass
from metering.db.failures import why_failed
from metering.stripe.client.errors import StripeThrottledError, StripeUncertainError

FAILED = 1
# EX_TEMPFAIL of sysexits.h: the same command may succeed later.
UNAVAILABLE = 75

_KEPT = "what was committed before is kept; run the command again"
_CONNECTING = re.compile(r"Error -?\d+ connecting to (.*?)\. (.*?)\.?")


@dataclass(frozen=True, slots=True)
class Failure:
    """What a command says on stderr before it exits with this code."""

    message: str
    exit_code: int


def failure_of(error: Exception) -> Failure | None:
    """How to end a command that raised this error; None for a bug, whose traceback is wanted."""
    if isinstance(error, DatabaseUnavailableError | StripeUncertainError | StripeThrottledError):
        return Failure(str(error), UNAVAILABLE)
    if isinstance(error, MeteringError):
        return Failure(str(error), FAILED)
    if isinstance(error, DBAPIError | psycopg.Error) and will_pass(error):
        return Failure(f"{why_failed(error)}: {_KEPT}", UNAVAILABLE)
    if isinstance(error, RedisError):
        return Failure(f"Valkey cannot be used: {_why_unusable(error)}", UNAVAILABLE)
    if isinstance(error, OSError) and error.strerror is not None:
        what = f"{error.filename}: " if error.filename is not None else ""
        return Failure(f"{what}{error.strerror}", FAILED)
    return None


def _why_unusable(error: RedisError) -> str:
    text = " ".join(str(error).split())
    found = _CONNECTING.fullmatch(text)
    return f"{found[2]} ({found[1]})" if found else text

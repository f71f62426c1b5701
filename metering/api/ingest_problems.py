"""The problems that every path for usage events can answer with."""

from metering.api.auth import ForbiddenError, UnauthorizedError
from metering.api.key_limits import TooManyRequestsError
from metering.core.errors import MeteringError
from metering.db.engine import DatabaseUnavailableError, UnsafeDatabaseError
from metering.streams.ingest.body import BodyTooLargeError, BrokenBodyError, UnsupportedBodyError
from metering.streams.ingest.submission import KeyQueueFullError, NotCommittedError, QueueFullError

INGEST_PROBLEMS: tuple[type[MeteringError], ...] = (
    UnauthorizedError,
    ForbiddenError,
    BodyTooLargeError,
    UnsupportedBodyError,
    BrokenBodyError,
    QueueFullError,
    KeyQueueFullError,
    NotCommittedError,
    DatabaseUnavailableError,
    UnsafeDatabaseError,
    TooManyRequestsError,
)

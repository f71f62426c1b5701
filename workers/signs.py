"""Signs of life: what this process has finalized is told to the database, from where every API can tell it.

What a worker did in the ten seconds before it dies is not counted: counts are for watching, not for billing.
"""

import logging
import secrets
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.db.engine import transaction
from metering.server.bootstrap import Service
from metering.server.store import WorkDone, write_heartbeat

log = logging.getLogger(__name__)

TELL_SECONDS = 10.0

_worker_id = secrets.token_hex(8)
_host = socket.gethostname()
_started_at = utc_now()
_lock = threading.Lock()
_done = WorkDone()
_told_at = float("-inf")


def count_batch(*, streams: int, seconds: float) -> None:
    """A batch was finalized."""
    global _done
    with _lock:
        _done += WorkDone(batches=1, streams=streams, batch_time=timedelta(seconds=seconds))


def tell_signs(service: Callable[[], Service]) -> None:
    """Tell that this process lives and what it did, if that is due. What fails is told with the next one."""
    global _done, _told_at
    if monotonic() - _told_at < TELL_SECONDS:
        return
    with _lock:
        done, _done = _done, WorkDone()
    try:
        with transaction(service().engine) as connection:
            write_heartbeat(
                connection, worker_id=_worker_id, host=_host, started_at=_started_at, now=utc_now(), done=done
            )
        _told_at = monotonic()
    except (SQLAlchemyError, MeteringError) as error:
        log.error("no sign of life could be given; it is tried again", extra={"error": str(error).splitlines()[0]})
        with _lock:
            _done += done

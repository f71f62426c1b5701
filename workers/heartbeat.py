"""Heartbeats: what this process has finalized, written to the database where every API process can read it.

Batches of the last ten seconds before a worker dies are not counted: the counts are for monitoring, not billing.
"""

import logging
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.db.engine import transaction
from metering.server.bootstrap import Service
from metering.server.store import WorkDone, write_heartbeat
from workers.deadlines import Deadlines

log = logging.getLogger(__name__)

WRITE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Beat:
    """A heartbeat that is written, or written again, with the same time until it is known to be stored."""

    at: datetime
    taken_at: float
    done: WorkDone


class Heartbeat:
    """The identity of this process, and what it did since its last heartbeat."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._worker_id = secrets.token_hex(8)
        self._host = socket.gethostname()
        self._started_at = utc_now()
        self._lock = threading.Lock()
        self._done = WorkDone()
        self._deadlines = Deadlines()
        self._unwritten: _Beat | None = None
        self._last_at = self._started_at
        self._written_at = float("-inf")

    def count_batch(self, streams: int, seconds: float) -> None:
        """Count a finalized batch."""
        with self._lock:
            self._done += WorkDone(batches=1, streams=streams, batch_time=timedelta(seconds=seconds))

    def write_if_due(self) -> None:
        """Write a heartbeat if the last one is old enough, or the last attempt at one failed."""
        if monotonic() - self._written_at < WRITE_SECONDS:
            return
        # It may be stored although the attempt failed: the same one again is counted once.
        beat = self._unwritten = self._unwritten or self._take()
        try:
            with (
                self._deadlines.attempt(self._service(), "heartbeat") as attempt,
                transaction(attempt.engine) as connection,
            ):
                write_heartbeat(
                    connection,
                    worker_id=self._worker_id,
                    host=self._host,
                    started_at=self._started_at,
                    now=beat.at,
                    done=beat.done,
                )
        except (SQLAlchemyError, MeteringError) as error:
            log.error("heartbeat not written, will retry", extra={"error": str(error).splitlines()[0]})
            return
        self._unwritten, self._written_at = None, beat.taken_at

    def _take(self) -> _Beat:
        with self._lock:
            done, self._done = self._done, WorkDone()
        # Later than the one before, also when the clock was put back.
        self._last_at = max(utc_now(), self._last_at + timedelta(microseconds=1))
        return _Beat(self._last_at, monotonic(), done)

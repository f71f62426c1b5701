"""Heartbeats: what this process has finalized, written to the database where every API process can read it.

Batches of the last ten seconds before a worker dies are not counted: the counts are for monitoring, not billing.
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

WRITE_SECONDS = 10.0


class Heartbeat:
    """The identity of this process, and what it did since its last heartbeat."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._worker_id = secrets.token_hex(8)
        self._host = socket.gethostname()
        self._started_at = utc_now()
        self._lock = threading.Lock()
        self._done = WorkDone()
        self._written_at = float("-inf")

    def count_batch(self, streams: int, seconds: float) -> None:
        """Count a finalized batch."""
        self._add(WorkDone(batches=1, streams=streams, batch_time=timedelta(seconds=seconds)))

    def write_if_due(self) -> None:
        """Write a heartbeat if the last one is old enough. Counts that cannot be written go with the next one."""
        if monotonic() - self._written_at < WRITE_SECONDS:
            return
        with self._lock:
            done, self._done = self._done, WorkDone()
        try:
            with transaction(self._service().engine) as connection:
                write_heartbeat(
                    connection,
                    worker_id=self._worker_id,
                    host=self._host,
                    started_at=self._started_at,
                    now=utc_now(),
                    done=done,
                )
            self._written_at = monotonic()
        except (SQLAlchemyError, MeteringError) as error:
            log.error("heartbeat not written, will retry", extra={"error": str(error).splitlines()[0]})
            self._add(done)

    def _add(self, done: WorkDone) -> None:
        with self._lock:
            self._done += done

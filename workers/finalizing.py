"""Finalize until nothing is due, within a time limit.

Two batches at a time in a process: one computes while the other waits for PostgreSQL.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.ledger.finalize_due import FinalizeResult, finalize_due
from metering.server.bootstrap import Service
from metering.streams.settlement import NEEDS_PERSON
from workers.deadlines import Deadlines
from workers.follow_up import FollowUp

log = logging.getLogger(__name__)

# A task that runs longer than this leaves the rest to the next message.
MAX_SECONDS = 30.0
OTHERS_SECONDS = 1.0


class Finalizing:
    """Batches of due streams; `on_batch` is called with the streams of each and the seconds that it took."""

    def __init__(self, service: Callable[[], Service], *, on_batch: Callable[[int, float], None]) -> None:
        self._service = service
        self._on_batch = on_batch
        self._deadlines = Deadlines()
        # More would wait for each other: half of the work is in Python, which runs one thread at a time.
        self._batches = threading.BoundedSemaphore(2)
        self._second = threading.Lock()
        self._follow_up = FollowUp(self._deadlines)
        self._others_at = 0.0
        # What the last full batch said; the two threads may overwrite each other's, which are alike.
        self._crowding: Sequence[str] = ()

    def drain(self, *, newest_first: bool = False) -> None:
        """Finalize batch after batch until none is due.

        Database errors are logged, not raised: the caller calls again in a second. A call while enough batches run
        returns at once, since those look again anyway.
        """
        try:
            self._drain(self._service(), newest_first=newest_first)
        except (SQLAlchemyError, MeteringError) as error:
            log.error("finalizing failed, will retry", extra={"error": str(error).splitlines()[0]})

    def _drain(self, service: Service, *, newest_first: bool) -> None:
        until = monotonic() + MAX_SECONDS
        while monotonic() < until:
            if not self._batches.acquire(blocking=False):
                return
            began = monotonic()
            without = self._customers_to_skip()
            work = f"finalizing {'other customers' if without else 'the newest' if newest_first else 'the oldest'}"
            try:
                with self._deadlines.attempt(service, work) as attempt:
                    result = finalize_due(
                        engine=attempt.engine,
                        price_books=service.price_books,
                        waits=service.waits,
                        now=utc_now(),
                        limit=attempt.share_of(service.settings.finalize_batch),
                        newest_first=newest_first,
                        without=without,
                    )
            finally:
                self._batches.release()
            if not without:
                self._crowding = result.crowding
            if result.claimed:
                self._on_batch(result.claimed, monotonic() - began)
                _log(result)
            self._follow_up.start_if_due(service)
            if not result.is_full and not without:
                return
            self._start_second()

    def _customers_to_skip(self) -> Sequence[str]:
        """Once a second, the customers that fill whole batches: the streams of all others go first."""
        if not self._crowding or monotonic() - self._others_at < OTHERS_SECONDS:
            return ()
        self._others_at = monotonic()
        return self._crowding

    def _start_second(self) -> None:
        """Start a second thread at the newest due streams, because more than one batch is due."""
        if self._second.acquire(blocking=False):
            threading.Thread(target=self._drain_from_the_end, name="finalizer", daemon=True).start()

    def _drain_from_the_end(self) -> None:
        try:
            self.drain(newest_first=True)
        finally:
            self._second.release()


def _log(result: FinalizeResult) -> None:
    log.info(
        "finalized",
        extra={"streams": result.claimed, "charged": result.charged, "adjusted": result.adjusted},
    )
    for state in NEEDS_PERSON:
        if count := result.states.get(state, 0):
            log.warning("streams need attention", extra={"state": state.value, "streams": count})

"""What follows bookings every few seconds: retries are linked, and totals are rolled up."""

import logging
import threading
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.ledger.link_retries import link_retries
from metering.ledger.store.rollups import roll_up_totals
from metering.ledger.store.totals_by_key import PAUSE, complete_totals_by_key
from metering.server.bootstrap import Service
from workers.deadlines import Deadlines

log = logging.getLogger(__name__)

LINK_SECONDS = 1.0
# Totals are exact without rolling up, but have to be read from more and more rows.
ROLL_UP_SECONDS = 10.0


class FollowUp:
    """Does it in a thread of its own, one at a time: after many bookings that takes seconds."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._running = threading.Lock()
        self._linked_at = self._rolled_up_at = 0.0
        self._completed_at = float("-inf")

    def start_if_due(self, service: Service) -> None:
        """Start, unless it runs or ran a moment ago. Errors are logged; a later call tries again."""
        due = monotonic() - self._linked_at >= LINK_SECONDS
        if due and self._running.acquire(blocking=False):
            threading.Thread(target=self._run, args=(service,), name="follow-up", daemon=True).start()

    def _run(self, service: Service) -> None:
        try:
            self._link(service)
            self._linked_at = monotonic()
            if monotonic() - self._rolled_up_at >= ROLL_UP_SECONDS:
                with self._deadlines.attempt(service, "rolling up totals") as attempt:
                    roll_up_totals(attempt.engine)
                self._rolled_up_at = monotonic()
                self._complete_totals(service)
        except (SQLAlchemyError, MeteringError) as error:
            message = "linking retries or rolling up totals failed, will retry"
            log.error(message, extra={"error": str(error).splitlines()[0]})
        finally:
            self._running.release()

    def _link(self, service: Service) -> None:
        with self._deadlines.attempt(service, "linking retries") as attempt:
            linked = link_retries(
                engine=attempt.engine,
                window=service.waits.retry_window,
                now=utc_now(),
                limit=attempt.share_of(service.settings.finalize_batch),
            )
        if linked:
            log.info("retries linked, their streams are finalized again", extra={"streams": linked})

    def _complete_totals(self, service: Service) -> None:
        """After an earlier release has rolled up. Nothing rolls up meanwhile: a failure is not repeated soon."""
        if monotonic() - self._completed_at >= PAUSE.total_seconds():
            self._completed_at = monotonic()
            if complete_totals_by_key(service.engine):
                log.info("totals by API key completed: an earlier release had rolled up")

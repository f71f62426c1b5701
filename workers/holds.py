"""Holds in a worker: give back what was held for streams that never began, and remove what is closed for long."""

import logging
from collections.abc import Callable
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError

from metering.budgets.expire_holds import expire_holds
from metering.budgets.prune_holds import prune_holds
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.server.bootstrap import Service
from workers.deadlines import Deadlines

log = logging.getLogger(__name__)

# A hold that is refused for want of money looks for expired ones itself, so this need not be often.
EVERY_SECONDS = 5.0


class Holds:
    """Expiring holds for one process. Errors are logged, and the work is tried again."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._deadlines = Deadlines()
        self._looked_at = float("-inf")

    def expire_due(self) -> None:
        """Expire the holds that are due, and remove some of those past their retention, every few seconds."""
        if monotonic() - self._looked_at < EVERY_SECONDS:
            return
        self._looked_at = monotonic()
        service = self._service()
        try:
            with self._deadlines.attempt(service, "expiring holds") as attempt:
                result = expire_holds(engine=attempt.engine, now=utc_now())
            with self._deadlines.attempt(service, "pruning holds") as attempt:
                prune_holds(engine=attempt.engine, retention=service.settings.holds_retention, now=utc_now())
        except (SQLAlchemyError, MeteringError) as error:
            log.error("expiring or pruning holds failed, will retry", extra={"error": str(error).splitlines()[0]})
            return
        if result.expired:
            log.info("holds expired, their streams never began", extra={"holds": result.expired})

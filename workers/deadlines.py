"""How long the statements of a worker may take: a moment, or METERING_STATEMENT_TIMEOUT for work that needs it.

A link that went silent in the middle of a statement is noticed when the time is over, so that is short.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from metering.db.failures import took_too_long
from metering.server.bootstrap import QUICK_STATEMENT_TIMEOUT, Service

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt at some work. `ended_before`: how often in a row PostgreSQL ended it because it took too long."""

    engine: Engine
    ended_before: int

    def share_of(self, batch: int) -> int:
        """A part of a batch: all of it, and half as much after each attempt that took too long; at least 1."""
        return max(1, batch >> self.ended_before)


class Deadlines:
    """The deadlines of each kind of work of one process; all methods may be called from any thread.

    They are short until PostgreSQL itself ends a statement: then the work may be slow rather than the link silent,
    and has METERING_STATEMENT_TIMEOUT until an attempt takes less than `fast`.
    """

    def __init__(self, *, fast: timedelta = QUICK_STATEMENT_TIMEOUT / 2) -> None:
        self._fast_seconds = fast.total_seconds()
        self._lock = threading.Lock()
        self._ended: dict[str, int] = {}

    @contextmanager
    def attempt(self, service: Service, work: str) -> Iterator[Attempt]:
        """Within the block, one attempt at a kind of work, in one or more transactions."""
        before = self._ended.get(work, 0)
        began = monotonic()
        try:
            yield Attempt(service.engine if before else service.quick_engine, before)
        except DBAPIError as error:
            if took_too_long(error):
                log.warning("took too long, will retry with METERING_STATEMENT_TIMEOUT", extra={"work": work})
                self._count(work, 1)
            raise
        if before and monotonic() - began < self._fast_seconds:
            self._count(work, -1)

    def _count(self, work: str, change: int) -> None:
        with self._lock:
            self._ended[work] = max(0, self._ended.get(work, 0) + change)

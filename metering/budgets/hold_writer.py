"""Group commit of holds: a thread admits and extends all that waits in one transaction, then answers.

There are no timers: while one transaction runs, the next group gathers. The thread has a connection of its own
with short deadlines. What was not confirmed is reported as failed; asking again is harmless.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Engine

from metering.budgets.admission import BudgetExhaustedError
from metering.budgets.admit_holds import HoldDiffersError, StreamFinalError, admit_holds
from metering.budgets.extend_holds import extend_delivering
from metering.budgets.hold_price import OutputUnknownError, PriceUnknownError
from metering.budgets.holds import Hold, HoldMode, HoldRequest, StreamKey
from metering.budgets.metrics import (
    HOLD_COMMIT_SECONDS,
    HOLDS_ADMITTED,
    HOLDS_NOT_COMMITTED,
    HOLDS_REFUSED,
    STREAMS_STOPPED,
)
from metering.budgets.queries.holds import customers_with_sliding_holds
from metering.budgets.store.locks import share_and_lock
from metering.core.errors import MeteringError
from metering.db.engine import will_pass
from metering.db.failures import why_failed
from metering.db.kept import KeptConnection
from metering.prices.price_book import PriceBook
from metering.prices.store.book import PriceBooks

log = logging.getLogger(__name__)

MAX_GROUP = 500
# Reading whether prices have changed takes as long as admitting ten holds. A new price applies to holds this late.
_PRICES_SECONDS = 1.0
# Other processes admit sliding holds, too: how often to look whose they are.
_LOOK_SECONDS = 1.0


class HoldQueueFullError(MeteringError):
    """More holds wait than can be admitted soon; the gateway has to try again."""

    def __init__(self) -> None:
        super().__init__("too many holds wait to be admitted: try again shortly")


class HoldNotCommittedError(MeteringError):
    """The database did not confirm; the gateway has to ask again."""

    def __init__(self) -> None:
        super().__init__("the database did not confirm the hold: ask again with the same body")


# What a refusal is called in the metric.
_REASONS: dict[type[MeteringError], str] = {
    BudgetExhaustedError: "budget_exhausted",
    PriceUnknownError: "price_unknown",
    OutputUnknownError: "output_unknown",
    HoldDiffersError: "hold_differs",
    StreamFinalError: "stream_final",
}


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What waits: a request for a hold, or streams with what they have delivered."""

    work: HoldRequest | Mapping[StreamKey, int]
    done: "asyncio.Future[Any]"

    @property
    def customers(self) -> set[str]:
        if isinstance(self.work, HoldRequest):
            return {self.work.customer_id}
        return {customer_id for customer_id, _ in self.work}


class HoldWriter:
    """The one writer of holds of an API process. Use as: `start()`, any number of calls, `stop()`.

    `sliding_customers` are those with open sliding holds: of this process at once, of others as they were at most
    a second ago. A slice has room for what a stream delivers meanwhile.
    """

    def __init__(
        self, *, engine: Engine, price_books: PriceBooks, clock: Callable[[], datetime], max_waiting: int = 10_000
    ) -> None:
        self._connection = KeptConnection(engine)
        self._price_books, self._clock = price_books, clock
        self._max_waiting = max_waiting
        self._waiting: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._prices: PriceBook | None = None
        self._prices_at = 0.0
        self.sliding_customers: frozenset[str] = frozenset()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="holds", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether holds are still admitted."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start admitting; call it on the event loop on which holds are asked for."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Answer what waits, then stop."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    async def admit(self, request: HoldRequest) -> Hold:
        """The hold of a stream, once it is durable.

        Raises:
            BudgetExhaustedError, PriceUnknownError, OutputUnknownError, HoldDiffersError, StreamFinalError: it is
                refused.
            HoldQueueFullError, HoldNotCommittedError: it may be asked for again.
        """
        try:
            answer: Hold = await self._put(request)
        except (HoldQueueFullError, HoldNotCommittedError):
            HOLDS_NOT_COMMITTED.inc()
            raise
        except MeteringError as error:
            HOLDS_REFUSED.labels(_REASONS.get(type(error), "other")).inc()
            raise
        HOLDS_ADMITTED.inc()
        return answer

    async def extend(self, delivered: Mapping[StreamKey, int]) -> Sequence[StreamKey]:
        """Extend the sliding holds of streams that have delivered so much; return the streams that have to end.

        Raises:
            HoldQueueFullError, HoldNotCommittedError: the next delivery tries again.
        """
        stopped: Sequence[StreamKey] = await self._put(delivered)
        STREAMS_STOPPED.inc(len(stopped))
        return stopped

    async def _put(self, work: HoldRequest | Mapping[StreamKey, int]) -> Any:
        job = _Job(work, asyncio.get_running_loop().create_future())
        with self._wake:
            if self._stopping or len(self._waiting) >= self._max_waiting:
                raise HoldQueueFullError
            self._waiting.append(job)
            self._wake.notify()
        return await job.done

    def _run(self) -> None:
        looked_at = float("-inf")
        while (group := self._next_group()) is not None:
            if group:
                answers = self._answer(group)
                # Known at once: the stream's first events may arrive within the second.
                self.sliding_customers |= _sliding(answers)
                assert self._loop is not None
                self._loop.call_soon_threadsafe(_resolve, group, answers)
            if monotonic() - looked_at >= _LOOK_SECONDS:
                self._look_for_sliding()
                looked_at = monotonic()
        self._connection.close()

    def _next_group(self) -> list[_Job] | None:
        """What waits; empty when nothing came for a while, None at the end."""
        with self._wake:
            if not self._waiting and not self._stopping:
                self._wake.wait(_LOOK_SECONDS)
            if not self._waiting and self._stopping:
                return None
            return [self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))]

    def _look_for_sliding(self) -> None:
        try:
            with self._connection.within_transaction() as connection:
                self.sliding_customers = customers_with_sliding_holds(connection)
        except Exception as error:
            if not will_pass(error):
                log.exception("open sliding holds cannot be read")

    def _answer(self, group: Sequence[_Job]) -> Sequence[object]:
        try:
            with HOLD_COMMIT_SECONDS.time(), self._connection.within_transaction() as connection:
                return self._work(connection, group)
        except Exception as error:
            if len(group) > 1 and not will_pass(error):
                # It is about one of them: each has a transaction of its own.
                return [self._answer([job])[0] for job in group]
            why = str(error) if isinstance(error, MeteringError) else why_failed(error)
            details = {"requests": len(group), "error": why}
            log.error("holds were not committed", extra=details, exc_info=not will_pass(error))
            return [HoldNotCommittedError()] * len(group)

    def _work(self, connection: Connection, group: Sequence[_Job]) -> Sequence[object]:
        share_and_lock(connection, set().union(*(job.customers for job in group)))
        prices, now = self._current_prices(connection), self._clock()
        asked = [job.work for job in group if isinstance(job.work, HoldRequest)]
        admitted = iter(admit_holds(connection, asked, prices=prices, now=now) if asked else ())
        delivered: dict[StreamKey, int] = {}
        for job in group:
            if not isinstance(job.work, HoldRequest):
                for key, tokens in job.work.items():
                    delivered[key] = max(tokens, delivered.get(key, 0))
        stopped = frozenset(extend_delivering(connection, delivered, prices=prices, now=now)) if delivered else ()
        return [
            next(admitted) if isinstance(job.work, HoldRequest) else [key for key in job.work if key in stopped]
            for job in group
        ]

    def _current_prices(self, connection: Connection) -> PriceBook:
        at = monotonic()
        if self._prices is None or at - self._prices_at > _PRICES_SECONDS:
            self._prices, self._prices_at = self._price_books.current(connection), at
        return self._prices


def _sliding(answers: Sequence[object]) -> set[str]:
    """The customers with sliding holds among these answers."""
    holds = [each for each in answers if isinstance(each, Hold)]
    return {each.request.customer_id for each in holds if each.request.mode is HoldMode.SLIDING}


def _resolve(group: Sequence[_Job], answers: Sequence[object]) -> None:
    for job, answer in zip(group, answers, strict=True):
        if job.done.done():
            continue
        if isinstance(answer, Exception):
            job.done.set_exception(answer)
        else:
            job.done.set_result(answer)

"""Turns: how many requests run at a time, and in which order the others wait, so that no client takes all.

Ingest has no part in this: it has a connection, a queue and limits of its own.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from prometheus_client import Counter, Gauge

from metering.api.key_limits import TooManyRequestsError
from metering.core.errors import MeteringError

READS_RUNNING = Gauge(
    "metering_reads_running",
    "Requests other than ingest that run now in this process",
    multiprocess_mode="livesum",
)
READS_WAITING = Gauge(
    "metering_reads_waiting", "Requests other than ingest that wait for their turn", multiprocess_mode="livesum"
)
READS_REFUSED = Counter("metering_reads_refused", "Requests refused with 503 because their turn did not come")

# A client with more waiting requests than this is asked to wait itself.
MAX_WAITING_PER_CLIENT = 32
MAX_WAITING = 512
# A client that has more requests waiting rests so many times as long as one took, and no longer than this.
_REST, _MOST_REST_SECONDS = 2.0, 1.0


class BusyError(MeteringError):
    """The turn of this request did not come in time: too many others run."""


class Shares:
    """A number of turns. A client may have half of them; the next one goes to the client with the fewest."""

    def __init__(self, *, turns: int, wait: timedelta) -> None:
        self._turns = turns
        self._most = max(1, turns // 2)
        self._wait_seconds = wait.total_seconds()
        self._running: dict[str, int] = {}
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._count = 0

    async def take(self, client: str) -> None:
        """Wait for a turn; call `end` when it is over.

        Raises:
            TooManyRequestsError: too many requests of this client wait already.
            BusyError: the turn did not come in time.
        """
        if self._may_run(client) and not self._waiting:
            self._start(client)
            return
        self.check_room(client)
        queue = self._waiting.setdefault(client, deque())
        with self._queued(client, queue) as turn:
            self._pass_on()
            try:
                await asyncio.wait_for(asyncio.shield(turn), self._wait_seconds)
            except TimeoutError:
                if not turn.done():
                    READS_REFUSED.inc()
                    raise BusyError("the turn of this request did not come in time: try again") from None
            except asyncio.CancelledError:
                if turn.done():
                    self.give_back(client)
                raise

    def check_room(self, client: str) -> None:
        """Refuse a request that could not even wait; `take` would, too.

        Raises:
            TooManyRequestsError: too many requests of this client wait already.
            BusyError: too many of all clients do.
        """
        waiting = len(self._waiting.get(client, ()))
        if waiting >= MAX_WAITING_PER_CLIENT:
            raise TooManyRequestsError(
                f"{waiting} requests of this client wait for their turn: wait for their answers", limit="reads"
            )
        if self._count >= MAX_WAITING:
            READS_REFUSED.inc()
            raise BusyError("too many requests wait for their turn: try again")

    def end(self, client: str, *, seconds: float) -> None:
        """The turn is over. While more of its client's requests wait, it rests twice as long, up to a second.

        So a flood leaves most of the interpreter to ingest, and a client that asks one by one does not wait.
        """
        if client in self._waiting:
            asyncio.get_running_loop().call_later(min(_REST * seconds, _MOST_REST_SECONDS), self.give_back, client)
        else:
            self.give_back(client)

    def give_back(self, client: str) -> None:
        """Another request may run."""
        left = self._running[client] - 1
        if left:
            self._running[client] = left
        else:
            del self._running[client]
        READS_RUNNING.set(sum(self._running.values()))
        self._pass_on()

    @contextmanager
    def _queued(self, client: str, queue: deque[asyncio.Future[None]]) -> Iterator[asyncio.Future[None]]:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._count += 1
        READS_WAITING.set(self._count)
        try:
            yield turn
        finally:
            if not turn.done():
                queue.remove(turn)
                self._unqueue(client, queue)

    def _unqueue(self, client: str, queue: deque[asyncio.Future[None]]) -> None:
        self._count -= 1
        READS_WAITING.set(self._count)
        if not queue:
            self._waiting.pop(client, None)

    def _pass_on(self) -> None:
        while free := [client for client in self._waiting if self._may_run(client)]:
            client = min(free, key=lambda each: self._running.get(each, 0))
            queue = self._waiting[client]
            turn = queue.popleft()
            self._unqueue(client, queue)
            if client in self._waiting:
                self._waiting.move_to_end(client)
            self._start(client)
            turn.set_result(None)

    def _may_run(self, client: str) -> bool:
        return sum(self._running.values()) < self._turns and self._running.get(client, 0) < self._most

    def _start(self, client: str) -> None:
        self._running[client] = self._running.get(client, 0) + 1
        READS_RUNNING.set(sum(self._running.values()))

"""Turns: one request is decoded at a time, and the keys that wait take turns, however many requests each has."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A lock that goes round the keys. A key waits for at most one request of each other key."""

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def of(self, key_id: str) -> AsyncIterator[None]:
        """Wait for a turn of this key, and hold it within the block."""
        await self._take(key_id)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, key_id: str) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            key_id, queue = next(iter(self._waiting.items()))
            turn = queue.popleft()
            if queue:
                self._waiting.move_to_end(key_id)
            else:
                del self._waiting[key_id]
            if not turn.done():
                turn.set_result(None)
                return
        self._is_taken = False

"""Turns: one request is decoded at a time, and the keys that wait take turns, however many requests each has."""

import asyncio
from collections import OrderedDict, deque

# What may be decoded without a turn in one pass of the event loop: about as long as one turn may take.
_MOST_PASSED_BYTES = 32 * 1024


class Turns:
    """A lock that goes round the keys. A key waits for at most one request of each other key."""

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._passed = 0

    def of(self, key_id: str) -> "_Turn":
        """Wait for a turn of this key, and hold it within the block."""
        return _Turn(self, key_id)

    def lets_pass(self, size: int) -> bool:
        """Whether a request with so few bytes need not wait for a turn; then it is taken to be decoded at once."""
        if self._is_taken or self._passed + size > _MOST_PASSED_BYTES:
            return False
        if not self._passed:
            asyncio.get_running_loop().call_soon(self._begin_pass)
        self._passed += size
        return True

    def _begin_pass(self) -> None:
        self._passed = 0

    async def take(self, key_id: str) -> None:
        """Wait for a turn, which `pass_on` ends."""
        if not self._is_taken:
            self._is_taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.pass_on()
            raise

    def pass_on(self) -> None:
        """Give the turn to the next key that waits."""
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


class _Turn:
    """A turn as an asynchronous context; a generator would take four times as long."""

    __slots__ = ("_key_id", "_turns")

    def __init__(self, turns: Turns, key_id: str) -> None:
        self._turns = turns
        self._key_id = key_id

    async def __aenter__(self) -> None:
        await self._turns.take(self._key_id)

    async def __aexit__(self, *_: object) -> None:
        self._turns.pass_on()

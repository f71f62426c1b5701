"""Streams that have to end: the answer to posted events names those whose budget is exhausted."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable

from metering.emitter.reports import ErrorLog

log = logging.getLogger(__name__)

_MOST_WATCHED = 100_000


class StopSignal:
    """Set once the stream has to end. `if stream.stopped:` asks, `await stream.stopped.wait()` waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __bool__(self) -> bool:
        return self._is_set

    def is_set(self) -> bool:
        """Whether the stream has to end."""
        return self._is_set

    async def wait(self) -> bool:
        """Wait until the stream has to end, on any event loop."""
        loop = asyncio.get_running_loop()
        waiter = (loop, loop.create_future())
        with self._lock:
            if self._is_set:
                return True
            self._waiting.append(waiter)
        try:
            await waiter[1]
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._waiting.remove(waiter)
        return True

    def set(self) -> None:
        """The stream has to end. Any thread may say so."""
        with self._lock:
            self._is_set = True
            waiting = tuple(self._waiting)
        for loop, future in waiting:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_resolve, future)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Stops:
    """Who is called when a stream has to end: by stream, once, on the thread that posts events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, Callable[[], None]] = {}
        self._errors = ErrorLog(log)

    def watch(self, stream_id: str, call: Callable[[], None]) -> None:
        """Call back when this stream has to end. A later call for the same stream takes the place of the first."""
        with self._lock:
            self._calls[stream_id] = call
            forgotten = len(self._calls) > _MOST_WATCHED
            if forgotten:
                self._calls.pop(next(iter(self._calls)))
        if forgotten:
            self._errors.error("more than %d open streams wait for a stop: the oldest is forgotten", _MOST_WATCHED)

    def forget(self, stream_id: str) -> None:
        """The stream has ended."""
        if self._calls:
            with self._lock:
                self._calls.pop(stream_id, None)

    def tell(self, stream_ids: Iterable[str]) -> int:
        """Call those whose streams have to end; returns their number."""
        told = 0
        for stream_id in stream_ids:
            with self._lock:
                call = self._calls.pop(stream_id, None)
            if call is None:
                continue
            told += 1
            try:
                call()
            except Exception as error:  # noqa: BLE001 - the caller's function must not end the thread that posts
                self._errors.error("on_stop of a stream raised %r", error)
        return told

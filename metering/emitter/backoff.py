"""How long to wait before a request is repeated: exponential, with jitter, or as the server says."""

import random
import threading
import time
from collections.abc import Callable

_FIRST_SECONDS = 0.1
_MAX_SECONDS = 30.0
_MAX_RETRY_AFTER_SECONDS = 60.0


class Backoff:
    """The pauses between attempts of one sender. `interrupt` ends a pause early, once."""

    def __init__(self, *, slow: float) -> None:
        self._slow = slow
        self._attempts = 0
        self._interrupted = threading.Event()

    def reset(self) -> None:
        """The server is well again: the next failure waits a short time."""
        self._attempts = 0

    def interrupt(self) -> None:
        """End a running pause: there is something better to do, such as a last attempt before exit."""
        self._interrupted.set()

    def wait(
        self, *, retry_after: float | None, misconfigured: bool, deadline: Callable[[], float | None]
    ) -> None:
        """Sleep before the next attempt, but not beyond the deadline (monotonic seconds), if there is one."""
        seconds = self._seconds(retry_after, misconfigured)
        limit = deadline()
        if limit is not None:
            # While closing there is no time for long pauses, and the server's wish is for those who can wait.
            seconds = min(seconds, max(0.0, limit - time.monotonic()), 1.0)
            time.sleep(seconds)
            return
        self._interrupted.wait(seconds)

    def _seconds(self, retry_after: float | None, misconfigured: bool) -> float:
        if misconfigured:
            return self._slow
        if retry_after is not None:
            return min(retry_after, _MAX_RETRY_AFTER_SECONDS) * random.uniform(1.0, 1.2)
        self._attempts = min(self._attempts + 1, 20)
        ceiling = min(_FIRST_SECONDS * 2.0 ** (self._attempts - 1), _MAX_SECONDS)
        return random.uniform(0.5, 1.0) * ceiling

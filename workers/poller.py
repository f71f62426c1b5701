"""The worker's own look at the database, without the broker.

Celery workers have stopped consuming for good after a broker reconnect (celery#8030, #9054, #10205). The row is
the work, so a thread in every worker looks for due rows too, and finalizes them when messages do not.
"""

import threading
from collections.abc import Callable

from metering.bootstrap import Service
from workers.finalizing import drain

INTERVAL_SECONDS = 1.0


class Poller:
    """Looks every second; whatever goes wrong with the database, it looks again."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_SECONDS):
            drain(self._service)

"""The worker's own looks at the database, without the broker.

Celery workers have stopped consuming for good after a broker reconnect (celery#8030, #9054, #10205). The row is
the work, so threads in every worker look for due rows too: for streams to finalize, for months, and for alerts.
"""

import threading
from collections.abc import Callable, Sequence

from metering.server.bootstrap import Service
from workers.alerts import evaluate_due_alerts, send_due_webhooks
from workers.finalizing import drain
from workers.months import work_on_months
from workers.signs import tell_signs

INTERVAL_SECONDS = 1.0


class Poller:
    """Looks every second; whatever goes wrong with the database, it looks again."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._stopping = threading.Event()
        # Months and webhooks apart, since they wait for others; signs with draining, which they are a sign of.
        self._threads = [
            threading.Thread(target=self._run, args=(looks,), name=looks[0].__name__, daemon=True)
            for looks in ((drain, tell_signs), (work_on_months,), (evaluate_due_alerts,), (send_due_webhooks,))
        ]

    def start(self) -> None:
        """Begin to look."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _run(self, looks: Sequence[Callable[[Callable[[], Service]], None]]) -> None:
        while not self._stopping.wait(INTERVAL_SECONDS):
            for look in looks:
                look(self._service)

"""The worker: the work of one process, and the threads that look for due rows without the broker.

Celery workers have stopped consuming for good after a broker reconnect (celery#8030, #9054, #10205). The row is
the work, so every worker also looks for due rows itself, once a second.
"""

import logging
import threading
from collections.abc import Callable

from metering.server.bootstrap import Service
from workers.alerts import Alerts
from workers.finalizing import Finalizing
from workers.heartbeat import Heartbeat
from workers.holds import Holds
from workers.months import Months
from workers.rates import Rates
from workers.top_ups import TopUps

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0


class Worker:
    """One process's work on streams, months and alerts.

    `build` makes the service. It is called again until it succeeds, since the database may not be there yet.
    """

    def __init__(self, build: Callable[[], Service]) -> None:
        self._build = build
        self._built: Service | None = None
        self._building = threading.Lock()
        self._stopping = threading.Event()
        self.heartbeat = Heartbeat(self.service)
        self.finalizing = Finalizing(self.service, on_batch=self.heartbeat.count_batch)
        self.months = Months(self.service)
        self.alerts = Alerts(self.service)
        self.rates = Rates(self.service)
        self.holds = Holds(self.service)
        self.top_ups = TopUps(self.service)

    def service(self) -> Service:
        """The service, built once; all threads share its connection pool."""
        with self._building:
            if self._built is None:
                self._built = self._build()
            return self._built

    def start(self) -> None:
        """Start to look for due rows."""
        # Months and webhooks wait for other systems, so they have separate threads.
        for name, looks in {
            "streams": (self.finalizing.drain, self.heartbeat.write_if_due),
            "months": (self.months.work,),
            "alerts": (self.alerts.evaluate_due,),
            "webhooks": (self.alerts.send_due,),
            "holds": (self.holds.expire_due,),
            "top-ups": (self.top_ups.work,),
        }.items():
            threading.Thread(target=self._look, args=looks, name=name, daemon=True).start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopping.set()

    def _look(self, *looks: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            for look in looks:
                try:
                    look()
                except Exception:
                    # A bug must not end the thread, and with it the work.
                    log.exception("unexpected error, will retry", extra={"look": look.__qualname__})
            self._stopping.wait(INTERVAL_SECONDS)

"""Nudges: messages that streams have ended, so that workers do not wait for their next poll.

A nudge has no data and can be lost: the row is the work. A separate thread sends at most one every 100 ms, and
none while enough messages wait, so that the queue stays short.
"""

import logging
import threading

from celery import Celery
from kombu.exceptions import KombuError
from redis import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

FINALIZE_TASK = "metering.finalize_due"
QUEUE = "metering"
MAX_WAITING = 20
_INTERVAL_SECONDS = 0.1


def celery_url(redis_url: str) -> str:
    """Convert a Valkey or Redis URL for Celery: `unix://` becomes `redis+socket://`."""
    return redis_url.replace("unix://", "redis+socket://", 1)


class Nudger:
    """Sends nudges in the background; `nudge()` never blocks and never fails."""

    def __init__(self, *, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._celery = Celery(broker=celery_url(redis_url), set_as_current=False)
        self._celery.conf.broker_transport_options = {"socket_timeout": 2, "socket_connect_timeout": 2}
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="nudger", daemon=True)

    def start(self) -> None:
        """Start sending."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sending; a requested nudge that is not sent yet is dropped."""
        self._stopping.set()
        self._wanted.set()
        self._thread.join(timeout=5)
        self._celery.close()
        self._redis.close()

    def nudge(self) -> None:
        """Request a nudge, because streams have ended."""
        self._wanted.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait()
            self._wanted.clear()
            if self._stopping.is_set():
                return
            self._send()
            self._stopping.wait(_INTERVAL_SECONDS)

    def _send(self) -> None:
        try:
            if self._redis.llen(QUEUE) < MAX_WAITING:
                self._celery.send_task(FINALIZE_TASK, queue=QUEUE, expires=10, ignore_result=True, retry=False)
            self._failing = False
        except (RedisError, KombuError, OSError) as error:
            # Workers poll as well, so this delays charges by a second at most. Log it once, not ten times a
            # second.
            if not self._failing:
                log.warning("nudges cannot be sent; workers still poll", extra={"error": str(error)})
            self._failing = True

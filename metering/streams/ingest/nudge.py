"""Nudges: tell a worker that streams have ended, so that it need not wait for its next poll.

A nudge carries no data and may be lost: the row is the work. It is sent from a thread of its own, at most every
100 ms, and not at all while enough of them wait already, so that no worker ever faces a mountain of them.
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
    """A Valkey or Redis URL as Celery spells it: `unix://` is its `redis+socket://`."""
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
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sending; a nudge that is still wanted is forgotten."""
        self._stopping.set()
        self._wanted.set()
        self._thread.join(timeout=5)
        self._celery.close()
        self._redis.close()

    def nudge(self) -> None:
        """Streams have ended: have a worker look soon."""
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
            # Workers poll as well, so this costs a second of freshness, not a charge. Say it once, not 10x/s.
            if not self._failing:
                log.warning("nudges cannot be sent; workers still poll", extra={"error": str(error)})
            self._failing = True

"""Beat with a bound: it holds back while enough messages wait, so that a queue nobody reads stays small."""

import logging
from typing import Any

from celery.beat import Scheduler
from redis import Redis
from redis.exceptions import RedisError

from metering.server.bootstrap import redis_url
from metering.server.settings import load_settings
from metering.streams.ingest.nudge import MAX_WAITING, QUEUE

log = logging.getLogger(__name__)


class BoundedScheduler(Scheduler):  # type: ignore[misc]
    """Keeps its schedule in memory: a restart begins it anew, which costs at most one interval."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._redis = Redis.from_url(redis_url(load_settings()), socket_timeout=2, socket_connect_timeout=2)

    def apply_async(self, entry: Any, *args: Any, **kwargs: Any) -> Any:
        """Send an entry's message unless the queue is full of unread ones."""
        try:
            if self._redis.llen(QUEUE) >= MAX_WAITING:
                log.warning("no worker reads the queue; beat holds back", extra={"task": entry.task})
                return None
        except RedisError as error:
            log.warning("the queue cannot be reached", extra={"error": str(error)})
            return None
        return super().apply_async(entry, *args, **kwargs)

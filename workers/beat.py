"""Beat with a limit: it sends nothing while enough messages wait, so that an unread queue stays small."""

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
    """A scheduler with its schedule in memory: a restart delays each task by at most one interval."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._redis = Redis.from_url(redis_url(load_settings()), socket_timeout=2, socket_connect_timeout=2)

    def apply_async(self, entry: Any, *args: Any, **kwargs: Any) -> Any:
        """Send an entry's message, unless too many messages wait."""
        try:
            if self._redis.llen(QUEUE) >= MAX_WAITING:
                log.warning("queue full, no worker reads it: message not sent", extra={"task": entry.task})
                return None
        except RedisError as error:
            log.warning("queue cannot be reached: message not sent", extra={"error": str(error)})
            return None
        return super().apply_async(entry, *args, **kwargs)

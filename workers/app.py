"""The Celery application, which wakes the workers. Messages have no data, no ETA and no result."""

import logging
import warnings
from functools import cache
from typing import Any

from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import beat_init, celeryd_after_setup, setup_logging, worker_init, worker_shutting_down

from metering.core.collector import freeze_collector
from metering.server.bootstrap import build_service, redis_url
from metering.server.logs import configure_logging
from metering.server.settings import Settings, load_settings
from metering.streams.ingest.nudge import QUEUE, celery_url
from workers.schedule import SCHEDULE
from workers.worker import Worker

log = logging.getLogger(__name__)


@cache
def settings() -> Settings:
    """The settings of this process."""
    return load_settings()


worker = Worker(lambda: build_service(settings()))

# Celery warns root about pickled messages. Ours are JSON without content, and nothing else is accepted.
warnings.filterwarnings("ignore", category=SecurityWarning)

app = Celery("metering", include=["workers.tasks"])
app.conf.update(
    broker_url=celery_url(redis_url(settings())),
    task_default_queue=QUEUE,
    accept_content=["json"],
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_acks_late=False,
    task_default_delivery_mode="transient",
    # Threads, because the work waits for PostgreSQL. Run more workers to use more cores.
    worker_pool="threads",
    worker_concurrency=2,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # Without these a worker can wait forever for a broker that went away silently (celery#8030, #9054).
    broker_transport_options={
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": True,
    },
    beat_schedule=SCHEDULE,
    beat_scheduler="workers.beat:BoundedScheduler",
    timezone="UTC",
)


@setup_logging.connect  # type: ignore[untyped-decorator]
def _logging(**_: Any) -> None:
    configure_logging(log_format=settings().log_format)


# Not `worker_ready`, which waits for the broker: without a broker, the worker's own threads do the work.
@worker_init.connect  # type: ignore[untyped-decorator]
def _start(**_: Any) -> None:
    # A batch creates a hundred thousand objects. All live until its commit, and none is part of a cycle.
    freeze_collector(young_objects=1_000_000)
    worker.start()


# Logging is not set up yet when the worker's threads start.
@celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def _log_worker(**_: Any) -> None:
    log.info("worker is running")


@beat_init.connect  # type: ignore[untyped-decorator]
def _log_beat(**_: Any) -> None:
    log.info("beat is running", extra={"messages": len(SCHEDULE)})


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    worker.stop()

"""`metering worker` and `metering beat`: this process checks the settings, and becomes Celery."""

import logging
import os
import sys
from typing import Annotated

import typer

from metering.db.engine import DatabaseUnavailableError
from metering.server.bootstrap import build_service
from metering.server.logs import configure_logging
from metering.server.settings import load_settings
from metering.server.up import BEAT, WORKER

log = logging.getLogger(__name__)


def worker_command(
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Number of threads.")] = 2,
) -> None:
    """Run a worker, which finalizes streams. The queue wakes it; it also polls the database."""
    _become_celery(*WORKER, "--concurrency", str(concurrency))


def beat_command() -> None:
    """Run beat, which wakes the workers on schedule. Run one; a second one does no harm."""
    _become_celery(*BEAT)


def _become_celery(*arguments: str) -> None:
    settings = load_settings()
    configure_logging(log_format=settings.log_format)
    try:
        # Checked here, so that a wrong configuration is one clear line and not a Celery traceback.
        build_service(settings).dispose()
    except DatabaseUnavailableError as error:
        log.warning("PostgreSQL is unavailable: work waits until it is back", extra={"error": str(error)})
    os.execv(sys.executable, [sys.executable, "-m", "celery", *arguments])

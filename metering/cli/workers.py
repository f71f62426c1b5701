"""`metering worker` and `metering beat`: this process checks the settings, and becomes Celery."""

import os
import sys
from typing import Annotated

import typer

from metering.server.bootstrap import build_service
from metering.server.settings import load_settings


def worker_command(
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Number of threads.")] = 2,
) -> None:
    """Run a worker, which finalizes streams. The queue wakes it; it also polls the database."""
    _become_celery("worker", "--concurrency", str(concurrency), "--without-gossip", "--without-mingle")


def beat_command() -> None:
    """Run beat, which wakes the workers on schedule. Run one; a second one does no harm."""
    _become_celery("beat", "--schedule", os.devnull)


def _become_celery(command: str, *options: str) -> None:
    settings = load_settings()
    # Checked here, so that a wrong configuration is one clear line and not a Celery traceback.
    build_service(settings).engine.dispose()
    arguments = ["--quiet", "--app", "workers.app:app", command, *options]
    os.execv(sys.executable, [sys.executable, "-m", "celery", *arguments])

"""The parts of a real deployment, one process each: migrate, api, worker, beat."""

import os
import sys
from typing import Annotated

import typer

from metering.api.server import run_api
from metering.cli.output import say
from metering.server.bootstrap import build_service
from metering.server.logs import configure_logging
from metering.server.settings import load_settings
from metering.server.up import prepare

Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: METERING_HOST.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on. Default: METERING_PORT.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("migrate")(migrate_command)
    app.command("api")(api_command)
    app.command("worker")(worker_command)
    app.command("beat")(beat_command)


def migrate_command() -> None:
    """Bring the database to this version; a new one also gets the catalogue's rates and an admin key."""
    settings = load_settings()
    configure_logging(log_format=settings.log_format)
    prepared = prepare(settings)
    say(f"database is at {prepared.version}")
    if prepared.imported:
        say(f"imported {len(prepared.imported.changes):,} rate cards from {prepared.imported.source}")
    if prepared.admin_key:
        say("first admin key, shown only now:")
        print(prepared.admin_key)


def api_command(host: Host = None, port: Port = None) -> None:
    """Run the API: ingest, reading, administration."""
    settings = load_settings(host=host, port=port)
    configure_logging(log_format=settings.log_format)
    run_api(build_service(settings, pool_size=20))


def worker_command(concurrency: Annotated[int, typer.Option(min=1, max=64, help="Threads.")] = 2) -> None:
    """Run a worker: finalizes streams, woken by the queue and by its own look at the database."""
    _become_celery("worker", "--concurrency", str(concurrency), "--without-gossip", "--without-mingle")


def beat_command() -> None:
    """Run beat: wakes the workers on schedule. Run one; a second one does no harm."""
    _become_celery("beat", "--schedule", os.devnull)


def _become_celery(command: str, *options: str) -> None:
    settings = load_settings()
    # Checked here, so that a wrong configuration is one clear line and not a Celery traceback.
    build_service(settings).engine.dispose()
    argv = [sys.executable, "-m", "celery", "--quiet", "--app", "workers.app:app", command, *options]
    os.execv(sys.executable, argv)

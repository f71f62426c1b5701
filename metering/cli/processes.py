"""`metering up`, all in one, and `metering migrate`."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from metering.cli.shared import redact_url, say
from metering.server.embedded.supervisor import Supervisor
from metering.server.logs import configure_logging
from metering.server.settings import load_settings
from metering.server.up import Prepared, Running, prepare, run_all_in_one

Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: METERING_HOST.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0 for a free one. Default: METERING_PORT.")
]


def up_command(
    data: Annotated[
        Path | None, typer.Option(help="Data folder of the embedded servers. Default: METERING_DATA.")
    ] = None,
    host: Host = None,
    port: Port = None,
    ephemeral: Annotated[bool, typer.Option(help="Use a temporary data folder and delete it on exit.")] = False,
) -> None:
    """Start PostgreSQL, Valkey, API, dashboard, worker and beat together. Stop them with Ctrl-C.

    METERING_DATABASE_URL and METERING_REDIS_URL replace the embedded PostgreSQL and Valkey.
    """
    settings = load_settings(data=data, host=host, port=port)
    configure_logging(log_format=settings.log_format)
    interrupted = _interrupt_on_signals()
    with (
        Supervisor() as supervisor,
        run_all_in_one(settings, supervisor=supervisor, ephemeral=ephemeral) as running,
    ):
        if interrupted.is_set():
            raise KeyboardInterrupt
        _greet(running)
        supervisor.run_until_signal()


def _interrupt_on_signals() -> threading.Event:
    """Make SIGINT and SIGTERM during startup unwind every `with`, so that nothing is left behind.

    The event is set too, because Python drops an exception that is raised during garbage collection.
    """
    interrupted = threading.Event()

    def interrupt(_signal: int, _frame: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    return interrupted


def _greet(running: Running) -> None:
    _say_prepared(running.prepared, indent="    ")
    say(f"database: {redact_url(running.environment['METERING_DATABASE_URL'])}")
    if running.stripe_url:
        say(f"Stripe:   {running.stripe_url}, a local stand-in: STRIPE_API_KEY is not set, no money moves")
    say(f"ready: {running.url}/dashboard    API: {running.url}/docs    Stop with Ctrl-C\n")


def _say_prepared(prepared: Prepared, *, indent: str = "") -> None:
    if prepared.imported:
        say(f"imported {len(prepared.imported.changes):,} rate cards from {prepared.imported.source}")
    if prepared.admin_key:
        say("first admin key, shown only once:")
        print(f"{indent}{prepared.admin_key}", flush=True)


def migrate_command() -> None:
    """Migrate the database to this version. A new database also gets the catalogue's rates and an admin key."""
    settings = load_settings()
    configure_logging(log_format=settings.log_format)
    prepared = prepare(settings)
    say(f"database is at version {prepared.version}")
    _say_prepared(prepared)

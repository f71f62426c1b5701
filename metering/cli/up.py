"""`metering up`: all in one, for a laptop or a single machine."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from metering.cli.output import redact_url, say
from metering.server.embedded.supervisor import Supervisor
from metering.server.logs import configure_logging
from metering.server.settings import load_settings
from metering.server.up import Running, run_all_in_one


def up_command(
    data: Annotated[
        Path | None, typer.Option(help="Folder of the embedded servers' data. Default: METERING_DATA.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: METERING_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = None,
    ephemeral: Annotated[bool, typer.Option(help="Use a new folder and leave nothing behind.")] = False,
) -> None:
    """Start all in one: PostgreSQL and Valkey unless given, API, worker, beat. Ctrl-C stops all of it.

    METERING_DATABASE_URL and METERING_REDIS_URL name servers to use instead of the embedded ones.
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
    """While it starts, SIGINT and SIGTERM end it through every `with`, so that nothing is left behind.

    The event tells of one whose exception was lost: Python swallows what is raised while it collects garbage.
    """
    interrupted = threading.Event()

    def interrupt(_signal: int, _frame: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    return interrupted


def _greet(running: Running) -> None:
    prepared = running.prepared
    if prepared.imported:
        say(f"\nimported {len(prepared.imported.changes):,} rate cards from {prepared.imported.source}")
    if prepared.admin_key:
        say("first admin key, shown only now:\n")
        print(f"    {prepared.admin_key}\n", flush=True)
    say(f"database: {redact_url(running.environment['METERING_DATABASE_URL'])}")
    if running.stripe_url:
        say(f"Stripe:   {running.stripe_url}, a local stand-in, since STRIPE_API_KEY is not set: no money moves")
    say(f"ready: {running.url}/dashboard    API: {running.url}/docs    Ctrl-C stops all of it\n")

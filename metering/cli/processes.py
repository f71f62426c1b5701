"""`metering up`, all in one, and `metering migrate`."""

import json
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from metering.cli.options import ApiProcesses, AsJson
from metering.cli.service import redact_url
from metering.server.embedded.data_dir import default_data_dir
from metering.server.embedded.supervisor import Supervisor
from metering.server.logs import configure_logging
from metering.server.settings import load_settings
from metering.server.terminal.output import say
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
    api_processes: ApiProcesses = None,
    ephemeral: Annotated[bool, typer.Option(help="Use a temporary data folder and delete it on exit.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the addresses and a new admin key as JSON.")
    ] = False,
) -> None:
    """Start PostgreSQL, Valkey, API, dashboard, worker and beat together. Stop them with Ctrl-C.

    METERING_DATABASE_URL and METERING_REDIS_URL replace the embedded PostgreSQL and Valkey.
    """
    settings = load_settings(data=data, host=host, port=port, api_processes=api_processes)
    configure_logging(log_format=settings.log_format)
    interrupted = _interrupt_on_signals()
    with (
        # What the parts say while they start matters only if one fails: then its last lines are in the error.
        Supervisor(quiet=True) as supervisor,
        run_all_in_one(settings, supervisor=supervisor, ephemeral=ephemeral, tell=_tell) as running,
    ):
        if interrupted.is_set():
            raise KeyboardInterrupt

        def greet() -> None:
            if as_json:
                print(json.dumps(_addresses(running), indent=2), flush=True)
            else:
                _greet(running)
            supervisor.speak()

        supervisor.run_until_signal(greet=greet)


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


def _tell(what: str) -> None:
    say(f"{what} …")


def _addresses(running: Running) -> dict[str, Any]:
    return {
        "url": running.url,
        "dashboard": f"{running.url}/dashboard",
        "docs": f"{running.url}/docs",
        "admin_key": running.prepared.admin_key,
        "stripe_url": running.stripe_url,
        "data": str(running.data) if running.data else None,
    }


_RULE = "─" * 78


def _greet(running: Running) -> None:
    """One block: what was prepared, the addresses, and what to do next. The key alone goes to stdout."""
    say(_RULE)
    _say_prepared(running.prepared, indent="    ")
    say(f"database: {redact_url(running.environment['METERING_DATABASE_URL'])}")
    if running.stripe_url:
        say(f"Stripe:   {running.stripe_url}, a local stand-in: STRIPE_API_KEY is not set, no money moves")
    if running.data and running.data != default_data_dir():
        say(f"other commands: export METERING_DATA={running.data}")
    key = running.prepared.admin_key or "YOUR_KEY"
    say(f"try: curl -H 'Authorization: Bearer {key}' {running.url}/v1/customers")
    say(f"ready: {running.url}/dashboard    API: {running.url}/docs    Stop with Ctrl-C")
    say(_RULE)


def _say_prepared(prepared: Prepared, *, indent: str = "") -> None:
    if prepared.imported:
        say(f"imported {len(prepared.imported.changes):,} rate cards from {prepared.imported.source}")
    if prepared.admin_key:
        say("first admin key, shown only once:")
        print(f"{indent}{prepared.admin_key}", flush=True)


def migrate_command(as_json: AsJson = False) -> None:
    """Migrate the database to this version. A new database also gets the catalogue's rates and an admin key."""
    settings = load_settings()
    configure_logging(log_format=settings.log_format)
    prepared = prepare(settings)
    if as_json:
        imported = len(prepared.imported.changes) if prepared.imported else 0
        result = {"version": prepared.version, "imported_rate_cards": imported, "admin_key": prepared.admin_key}
        print(json.dumps(result, indent=2))
        return
    say(f"database is at version {prepared.version}")
    _say_prepared(prepared)

"""Commands that start processes: `up` (all in one), `migrate`, `worker`, `beat`, `demo` and `gateway`."""

import logging
import os
import signal
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from metering.cli.shared import redact_url, say
from metering.core.errors import MeteringError
from metering.db.engine import DatabaseUnavailableError
from metering.server.bootstrap import build_service
from metering.server.embedded.supervisor import Supervisor
from metering.server.logs import configure_logging
from metering.server.settings import load_settings
from metering.server.up import BEAT, WORKER, Prepared, Running, prepare, run_all_in_one

log = logging.getLogger(__name__)

Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: METERING_HOST.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0 for a free one. Default: METERING_PORT.")
]


class ExtraMissingError(MeteringError):
    """Packages that the command needs are not installed."""


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
        build_service(settings).engine.dispose()
    except DatabaseUnavailableError as error:
        log.warning("PostgreSQL is away: nothing is done until it is back", extra={"error": str(error)})
    _become("celery", *arguments)


def demo_command(
    keep: Annotated[bool, typer.Option(help="Leave everything running and print the addresses.")] = False,
) -> None:
    """Run the whole product on sample data and check every figure. Exits non-zero if one is wrong.

    Needs the extras `demo` and `gateway`.
    """
    _require(openai="demo", bpe_openai="gateway")
    _become("metering.lab.demo", *(["--keep"] if keep else []))


def gateway_command(
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes. Default: METERING_GATEWAY_WORKERS, or 1.")
    ] = None,
) -> None:
    """Run the reference gateway, which meters every completion. It speaks OpenAI's API on both sides.

    Set METERING_GATEWAY_CONFIG (a TOML file with upstreams and keys), METERING_GATEWAY_INGEST_KEY and
    METERING_GATEWAY_URL; see docs/gateway.md. Needs the extra `gateway`.
    """
    _require(bpe_openai="gateway")
    _become("metering.gateway", *([] if workers is None else ["--workers", str(workers)]))


def _require(**extra_of: str) -> None:
    missing = {package: extra for package, extra in extra_of.items() if find_spec(package) is None}
    if missing:
        extras = ",".join(dict.fromkeys(missing.values()))
        raise ExtraMissingError(
            f"the package {', '.join(missing)} is not installed: install stream-metering from this checkout with"
            f' its extras, pip install "{_checkout()}[{extras}]"'
        )


def _checkout() -> str:
    """The folder that this package was installed from, or a placeholder where it is not a checkout."""
    folder = Path(__file__).parents[2]
    return str(folder) if (folder / "pyproject.toml").is_file() else "<checkout>"


def _become(module: str, *arguments: str) -> None:
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])

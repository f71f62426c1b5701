"""`metering`: all commands, grouped by purpose, and the handling of expected errors."""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from metering.cli.lazy import LazyCommand, lazy_group
from metering.core.errors import MeteringError
from metering.server.logs import mute_repetitions

_RUN, _BILL, _PRICE, _OPERATE = "Run", "Bill", "Price", "Operate"


def _command(place: str, panel: str, example: str | None = None) -> LazyCommand:
    return LazyCommand(f"metering.cli.{place}", panel, example)


# `metering` on PyPI is another project.
DISTRIBUTION = "stream-metering"

COMMANDS = {
    "up": _command("processes:up_command", _RUN, "up --data ./data --port 8000"),
    "demo": _command("extras:demo_command", _RUN, "demo --keep"),
    "migrate": _command("processes:migrate_command", _RUN),
    "api": _command("api:api_command", _RUN),
    "worker": _command("workers:worker_command", _RUN),
    "beat": _command("workers:beat_command", _RUN),
    "gateway": _command("extras:gateway_command", _RUN),
    "customers": _command("customers:app", _BILL),
    "backlog": _command("corrections:backlog", _BILL),
    "invoices": _command("invoices:app", _BILL),
    "reconcile": _command("reconcile:reconcile_command", _BILL, "reconcile --period 2026-10 --repair"),
    "export": _command("export:export_command", _BILL, "export charges --period 2026-10 --out charges.csv"),
    "rates": _command("rates:app", _PRICE),
    "cancel-policy": _command("cancel_policy:app", _PRICE),
    "upstream-price": _command("upstream_price:app", _PRICE),
    "rerate": _command("corrections:rerate_command", _PRICE, "rerate --period 2026-10 --model gpt-5.5 --dry-run"),
    "keys": _command("access:keys", _OPERATE),
    "reader": _command("access:reader", _OPERATE),
    "alerts": _command("alerts:app", _OPERATE),
    "webhooks": _command("webhooks:app", _OPERATE),
    "doctor": _command("doctor:doctor_command", _OPERATE),
    "backup": _command("backup:backup_command", _OPERATE, "backup /backups/2026-11-29"),
    "restore": _command("backup:restore_command", _OPERATE, "restore /backups/2026-11-29 --into ./data"),
    "audit": _command("audit:audit_command", _OPERATE, "audit --period 2026-10"),
    "audit-log": _command("audit_log:app", _OPERATE),
    "verify": _command("audit:verify_command", _OPERATE, "verify receipt.json"),
    "bench": _command("bench:app", _OPERATE),
}

app = typer.Typer(
    name="metering",
    cls=lazy_group(COMMANDS),
    help="Usage metering and billing for LLM streaming gateways.",
    epilog="Start with: metering up. Try with sample data: metering demo --keep",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        print(f"metering {version(DISTRIBUTION)}")
    except PackageNotFoundError as error:
        raise MeteringError(f"the version is unknown: {DISTRIBUTION} is on the path, but not installed") from error
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Usage metering and billing for LLM streaming gateways."""


def main() -> None:
    """Run the command line. An expected failure is one line on stderr, with an exit code of docs/operations.md."""
    mute_repetitions()
    try:
        app()
    except Exception as error:
        # Imported when it is needed, as commands are: it knows the errors of the database and of Stripe.
        failure = import_module("metering.cli.failures").failure_of(error)
        if failure is None:
            raise
        print(f"metering: {failure.message}", file=sys.stderr)
        sys.exit(failure.exit_code)

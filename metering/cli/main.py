"""`metering`: all commands, grouped by purpose, and the handling of expected errors."""

import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from metering.cli import (
    access,
    alerts,
    audit,
    bench,
    cancel_policy,
    corrections,
    customers,
    doctor,
    export,
    invoices,
    processes,
    rates,
    reconcile,
    webhooks,
)
from metering.cli.shared import fail
from metering.core.errors import MeteringError

app = typer.Typer(
    name="metering",
    help="Usage metering and billing for LLM streaming gateways.",
    epilog="Start with: metering up. Try with sample data: metering demo --keep",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)

_RUN, _BILL, _PRICE, _OPERATE = "Run", "Bill", "Price", "Operate"


def _example(command: str) -> str:
    return f"Example: metering {command}"


app.command("up", rich_help_panel=_RUN, epilog=_example("up --data ./data --port 8000"))(processes.up_command)
app.command("demo", rich_help_panel=_RUN, epilog=_example("demo --keep"))(processes.demo_command)
app.command("migrate", rich_help_panel=_RUN)(processes.migrate_command)
app.command("api", rich_help_panel=_RUN)(processes.api_command)
app.command("worker", rich_help_panel=_RUN)(processes.worker_command)
app.command("beat", rich_help_panel=_RUN)(processes.beat_command)
app.command("gateway", rich_help_panel=_RUN)(processes.gateway_command)

app.add_typer(customers.app, name="customers", rich_help_panel=_BILL)
app.add_typer(corrections.backlog, name="backlog", rich_help_panel=_BILL)
app.add_typer(invoices.app, name="invoices", rich_help_panel=_BILL)
app.command("reconcile", rich_help_panel=_BILL, epilog=_example("reconcile --period 2026-10 --repair"))(
    reconcile.reconcile_command
)
app.command("export", rich_help_panel=_BILL, epilog=_example("export charges --period 2026-10 --out charges.csv"))(
    export.export_command
)

app.add_typer(rates.app, name="rates", rich_help_panel=_PRICE)
app.add_typer(cancel_policy.app, name="cancel-policy", rich_help_panel=_PRICE)
app.command(
    "rerate", rich_help_panel=_PRICE, epilog=_example("rerate --period 2026-10 --model gpt-5.5 --dry-run")
)(corrections.rerate_command)

app.add_typer(access.keys, name="keys", rich_help_panel=_OPERATE)
app.add_typer(access.reader, name="reader", rich_help_panel=_OPERATE)
app.add_typer(alerts.app, name="alerts", rich_help_panel=_OPERATE)
app.add_typer(webhooks.app, name="webhooks", rich_help_panel=_OPERATE)
app.command("doctor", rich_help_panel=_OPERATE)(doctor.doctor_command)
app.command("audit", rich_help_panel=_OPERATE, epilog=_example("audit --period 2026-10"))(audit.audit_command)
app.command("verify", rich_help_panel=_OPERATE, epilog=_example("verify receipt.json"))(audit.verify_command)
app.add_typer(bench.app, name="bench", rich_help_panel=_OPERATE)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    for name in ("stream-metering", "metering"):
        with suppress(PackageNotFoundError):
            print(f"metering {version(name)}")
            raise typer.Exit
    raise MeteringError("the version is unknown: metering is not installed, only on the path")


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Usage metering and billing for LLM streaming gateways."""


def main() -> None:
    """Run the command line. An expected error prints one line on stderr and exits with 1."""
    try:
        app()
    except MeteringError as error:
        fail(str(error))
        sys.exit(1)

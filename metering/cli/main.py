"""`metering`: all commands, and how their errors and results reach a person or a script."""

import sys

import typer

from metering.cli import (
    alerts,
    audit,
    backlog,
    bench,
    cancel_policy,
    customers,
    doctor,
    export,
    invoices,
    keys,
    parts,
    programs,
    rates,
    reader,
    reconcile,
    rerate,
    up,
    verify,
    webhooks,
)
from metering.cli.output import fail
from metering.core.errors import MeteringError

app = typer.Typer(
    name="metering",
    help="Usage metering and billing for LLM streaming gateways.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys.app, name="keys")
app.add_typer(customers.app, name="customers")
app.add_typer(rates.app, name="rates")
app.add_typer(cancel_policy.app, name="cancel-policy")
app.add_typer(backlog.app, name="backlog")
app.add_typer(invoices.app, name="invoices")
app.add_typer(reader.app, name="reader")
app.add_typer(alerts.app, name="alerts")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(bench.app, name="bench")
app.command("audit")(audit.audit_command)
app.command("up")(up.up_command)
app.command("export")(export.export_command)
app.command("demo")(programs.demo_command)
app.command("gateway")(programs.gateway_command)
app.command("reconcile")(reconcile.reconcile_command)
app.command("rerate")(rerate.rerate_command)
app.command("verify")(verify.verify_command)
app.command("doctor")(doctor.doctor_command)
parts.register(app)


def main() -> None:
    """Run the command line; an expected failure is one line on stderr and exit code 1."""
    try:
        app()
    except MeteringError as error:
        fail(str(error))
        sys.exit(1)

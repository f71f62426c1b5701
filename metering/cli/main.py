"""`metering`: all commands, and the handling of expected errors and of Ctrl-C."""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from metering.cli.lazy import MARKUP, lazy_group
from metering.cli.registry import COMMANDS
from metering.core.errors import MeteringError
from metering.server.logs import mute_repetitions

# `metering` on PyPI is another project.
DISTRIBUTION = "stream-metering"
INTERRUPTED = 130

app = typer.Typer(
    name="metering",
    cls=lazy_group(COMMANDS),
    help="Usage metering and billing for LLM streaming gateways.",
    epilog="Start with: metering up. Try with sample data: metering demo --keep",
    no_args_is_help=True,
    rich_markup_mode=MARKUP,
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
        app(prog_name="metering")
    except SystemExit as ended:
        # Ctrl-C, which Typer makes an exit code of.
        if ended.code == INTERRUPTED:
            print("metering: stopped", file=sys.stderr)
        raise
    except Exception as error:
        # Imported when it is needed, as commands are: it knows the errors of the database and of Stripe.
        failure = import_module("metering.cli.failures").failure_of(error)
        if failure is None:
            raise
        print(f"metering: {failure.message}", file=sys.stderr)
        sys.exit(failure.exit_code)

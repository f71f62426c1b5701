"""What commands share: options, progress on stderr, and results as tables or as JSON (`--json`)."""

import getpass
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from socket import gethostname
from time import monotonic
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from sqlalchemy import Connection, make_url

from metering.access.actors import Actor
from metering.core.errors import MeteringError
from metering.core.money import plain_decimal
from metering.db.engine import transaction
from metering.exports.export_month import ExportProgress
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.stripe.client.errors import StripeThrottledError, StripeUncertainError
from metering.stripe.client.patience import Patience

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Period = Annotated[str, typer.Option(help="The month, e.g. 2026-10.")]
OnlyCustomer = Annotated[str | None, typer.Option(help="Only this customer.")]
OnlyProvider = Annotated[str | None, typer.Option(help="Only this provider, as in the events.")]
Provider = Annotated[str, typer.Argument(help="The provider as in the events, e.g. anthropic.")]
Limit = Annotated[int, typer.Option(min=1, help="Maximum number of rows.")]
EffectiveFrom = Annotated[
    datetime | None, typer.Option(help="Applies to streams that start from this time on, in UTC. Default: now.")
]


def operator() -> Actor:
    """The author of what commands change: the user of the operating system, on this machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return Actor(name=f"the command line, {user}", door="cli", address=gethostname())


# A pipe or a log has no width; 80 columns would fold most tables.
_out = Console(width=None if sys.stdout.isatty() else 160)
_SECONDS_PER_UPDATE = 0.1


class InvalidNumberError(MeteringError):
    """An option or argument is not a number."""


def parse_decimal(name: str, text: str) -> Decimal:
    """The number in an option or argument.

    Raises:
        InvalidNumberError: it is not a number.
    """
    try:
        return plain_decimal(text)
    except ValueError as error:
        raise InvalidNumberError(f"{name}: {error}") from error


def utc_or(given: datetime | None, default: datetime) -> datetime:
    """The given time, which is in UTC, or the default."""
    return given.replace(tzinfo=UTC) if given else default


def time_text(at: datetime | None) -> str | None:
    """A time to the second, ISO 8601."""
    return at.isoformat(timespec="seconds") if at else None


@contextmanager
def database() -> Iterator[Connection]:
    """A transaction on the configured database."""
    with transaction(build_service(load_settings()).engine) as connection:
        yield connection


def fail(message: str) -> None:
    """Print an error to stderr."""
    print(f"metering: {message}", file=sys.stderr)


def say(message: str) -> None:
    """Print a message that is not part of the result to stderr."""
    print(message, file=sys.stderr)


def _progress(*columns: ProgressColumn) -> Progress:
    """Progress on a terminal; silent elsewhere."""
    return Progress(
        TextColumn("{task.description}"),
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int], None]]:
    """A counter on a terminal; call it with how many are done."""
    with _progress(TextColumn("{task.completed:,}"), TimeElapsedColumn()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def phases() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on a terminal; call it with the name of a phase, how many are done, and the total."""
    rate = "{task.completed:,} of {task.total:,}, {task.fields[rate]:,.0f} a second"
    with _progress(BarColumn(), TextColumn(rate), TimeRemainingColumn()) as bar:
        tasks: dict[str, TaskID] = {}
        begun: dict[str, float] = {}
        updated_at = 0.0

        def update(what: str, done: int, total: int) -> None:
            # Callers may update as often as they like: the bar takes 10 us and is drawn ten times a second.
            nonlocal updated_at
            if what in tasks and done < total and monotonic() - updated_at < _SECONDS_PER_UPDATE:
                return
            updated_at = monotonic()
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, rate=0)
                begun[what] = updated_at
            rate = done / max(updated_at - begun[what], _SECONDS_PER_UPDATE)
            bar.update(tasks[what], completed=done, total=total, rate=rate)

        yield update


@contextmanager
def export_bar(what: str) -> Iterator[Callable[[ExportProgress], None] | None]:
    """A bar with the rows written so far; None if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    rows = "{task.fields[rows]:,} rows, {task.fields[rate]:,.0f} rows/s"
    began = monotonic()
    with _progress(BarColumn(), TextColumn(rows), TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=None, rows=0, rate=0)

        def update(far: ExportProgress) -> None:
            rate = far.rows / max(monotonic() - began, _SECONDS_PER_UPDATE)
            bar.update(task, completed=far.entries, total=far.total_entries, rows=far.rows, rate=rate)

        yield update


# About 20 seconds in all, or as long as Stripe asks for.
_STRIPE_TRIES = 7


def stripe_patience() -> Patience:
    """How often commands ask Stripe again; each wait is said on stderr."""
    return Patience(tries=_STRIPE_TRIES, on_wait=lambda what, wait: say(f"{what}; asking again in {wait:g} s"))


@contextmanager
def tell_what_is_done(what: Callable[[], str]) -> Iterator[None]:
    """When Stripe is given up in the block, the error also says what was done and what was not."""
    try:
        yield
    except (StripeUncertainError, StripeThrottledError) as error:
        raise type(error)(f"{error}; Stripe was asked {_STRIPE_TRIES} times: {what()}") from error


def redact_url(url: str) -> str:
    """A URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def show_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one result as a table with one row, or as a JSON object."""
    if as_json:
        print(json.dumps(dict(row), default=str, indent=2))
    else:
        show([row], as_json=False, empty="")


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print rows as a table, or as a JSON array. `empty` is printed instead of a table without rows."""
    if as_json:
        print(json.dumps(list(rows), default=str, indent=2))
        return
    if not rows:
        print(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    _out.print(table)

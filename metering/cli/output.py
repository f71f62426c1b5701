"""Results for people (tables) or scripts (`--json`), errors on stderr."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy import make_url

from metering.exports.export_month import ExportProgress

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

# A pipe or a log has no width of its own; 80 would fold most tables.
_out = Console(width=None if sys.stdout.isatty() else 160)
_TELL_SECONDS = 0.1


def fail(message: str) -> None:
    """Say what went wrong."""
    print(f"metering: {message}", file=sys.stderr)


def say(message: str) -> None:
    """Tell a person something that is no result."""
    print(message, file=sys.stderr)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int], None]]:
    """Count on a terminal how many of something are done, with the rate; silent elsewhere."""
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:,}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def phases() -> Iterator[Callable[[str, int, int], None]]:
    """Tell on a terminal what is being done, how far and fast, and how long it will take; silent elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,}, {task.fields[rate]:,.0f} a second"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, TaskID] = {}
        begun: dict[str, float] = {}
        told_at = 0.0

        def tell(what: str, done: int, total: int) -> None:
            # Whoever works need not count how often it tells: a bar takes 10 us, and is drawn ten times a second.
            nonlocal told_at
            if what in tasks and done < total and monotonic() - told_at < _TELL_SECONDS:
                return
            told_at = monotonic()
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, rate=0)
                begun[what] = told_at
            rate = done / max(told_at - begun[what], _TELL_SECONDS)
            bar.update(tasks[what], completed=done, total=total, rate=rate)

        yield tell


@contextmanager
def export_bar(what: str) -> Iterator[Callable[[ExportProgress], None] | None]:
    """Tell on a terminal how many rows are written, how fast, and how long it will take; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f} rows/s"),
        TimeRemainingColumn(),
    )
    began = monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, rows=0, rate=0)

        def tell(far: ExportProgress) -> None:
            rate = far.rows / max(monotonic() - began, _TELL_SECONDS)
            bar.update(task, completed=far.entries, total=far.total_entries, rows=far.rows, rate=rate)

        yield tell


def redact_url(url: str) -> str:
    """A URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def show_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one result as a table of one row, or as a JSON object."""
    if as_json:
        print(json.dumps(dict(row), default=str, indent=2))
    else:
        show([row], as_json=False, empty="")


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print rows as a table, or as a JSON array; `empty` is what a person reads when there are none."""
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

"""What commands print: results on stdout, as tables for people or as JSON (`--json`); all else on stderr."""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from metering.server.terminal.columns import Shown, colour_of, printable, shown_columns
from metering.server.terminal.layout import Paint, block, fit, plain, table

_BOLD = "1"
# So many columns a table has at least; with fewer, each row is a block of its own.
_KEPT = 3


def fail(message: str) -> None:
    """Print an error to stderr, in one line."""
    print(f"metering: {printable(message)}", file=sys.stderr)


def say(message: str) -> None:
    """Print a message that is not part of the result to stderr."""
    print(message, file=sys.stderr, flush=True)


def counted(number: int, what: str) -> str:
    """A number with its noun.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def print_json(result: Any) -> None:
    """Print a result as JSON."""
    print(json.dumps(result, default=str, indent=2))


def done(message: str, result: Mapping[str, Any], *, as_json: bool) -> None:
    """Say that something was done; with `--json`, print what instead."""
    if as_json:
        print_json(dict(result))
    else:
        say(message)


def show_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one result as a line for each value, or as a JSON object."""
    if as_json:
        print_json(dict(row))
        return
    for line in _blocks(shown_columns([row]), rows=1):
        print(line)


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str, important: Sequence[str] = ()) -> None:
    """Print rows as a table, or as a JSON array. `empty` is printed instead of a table without rows.

    Where the terminal is too narrow for all columns, those named in `important` stay longest, then the left ones.
    """
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        print(empty)
        return
    columns = shown_columns(rows)
    places = {column.name: place for place, column in enumerate(columns)}
    first = [places[name] for name in important if name in places]
    importance = first + [place for place in range(len(columns)) if place not in first]
    keep = min(len(columns), len(first) or _KEPT)
    width = terminal_width()
    laid = [column.laid for column in columns]
    fitted = fit(laid, importance=importance, keep=keep, width=width)
    lines = table(laid, fitted, heading=_heading, paint=_paint(columns)) if fitted else _blocks(columns, len(rows))
    for line in lines:
        print(line)
    if fitted and len(fitted.shown) < len(columns):
        left_out = [column.laid.heading for place, column in enumerate(columns) if place not in fitted.shown]
        say(f"not shown at {width} columns: {', '.join(left_out)} (a wider terminal and --json show all)")


def confirm(question: str) -> bool:
    """Whether a person at the terminal agrees; False where there is none. Ctrl-C ends the command."""
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N]: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def title(text: str) -> None:
    """Print the title of what follows."""
    print(f"\n{coloured(text, _BOLD)}")


def terminal_width() -> int | None:
    """The width of the terminal; None if stdout is none: a pipe or a file has no width."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def is_coloured() -> bool:
    """Whether results have colours: on a terminal, unless NO_COLOR is set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(text: str, code: str | None) -> str:
    """A text in a colour, where there are colours."""
    return f"\x1b[{code}m{text}\x1b[0m" if code and text.strip() and is_coloured() else text


def _heading(text: str) -> str:
    return coloured(text, _BOLD)


def _paint(columns: Sequence[Shown]) -> Paint:
    if not is_coloured():
        return plain
    return lambda place, text, padded: coloured(padded, colour_of(text)) if columns[place].coloured else padded


def _blocks(columns: Sequence[Shown], rows: int) -> list[str]:
    """Each row as lines, with an empty line between two rows."""
    lines: list[str] = []
    for row in range(rows):
        filled = [column for column in columns if column.laid.cells[row].strip()]
        laid = [column.laid for column in filled]
        lines += ["", *block(laid, row, width=terminal_width(), paint=_paint(filled))]
    return lines[1:]

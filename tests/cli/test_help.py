"""Help, version and completion: by subject, without imports of what is not run."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from metering.cli.lazy import LazyCommand
from metering.cli.main import app
from metering.cli.registry import COMMANDS
from tests.command_line import CommandLine

ROOT = typer.main.get_group(app)


def leaves() -> Iterator[tuple[str, ...]]:
    """Every command, as it is typed."""
    for name, each in COMMANDS.items():
        if isinstance(each, LazyCommand):
            yield (name,)
        else:
            yield from ((name, command) for command in each.commands)


LEAVES = list(leaves())


def loaded(path: tuple[str, ...]) -> Any:
    """The command that runs, with its listing."""
    group: Any = ROOT
    for name in path[:-1]:
        group = group.commands[name]
    context = typer.Context(group)
    _, command, _ = group.resolve_command(context, [path[-1]])
    return group.commands[path[-1]], command


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_a_list_says_what_the_commands_own_help_says_first(path: tuple[str, ...]) -> None:
    listed, command = loaded(path)
    said = " ".join(command.help.split())
    assert said.startswith(listed.short_help)
    assert listed.short_help.endswith(".")


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_flags_have_no_type_and_every_option_has_a_help(path: tuple[str, ...]) -> None:
    _, command = loaded(path)
    for param in command.get_params(typer.Context(command)):
        assert param.help, param.name
        if getattr(param, "is_flag", False):
            assert not param.metavar


# Those that run on, or print nothing but what they do.
WITHOUT_RESULT = {
    ("api",),
    ("worker",),
    ("beat",),
    ("gateway",),
    ("bench", "page"),
    ("bench", "reliability-page"),
}


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_a_command_with_a_result_has_json(path: tuple[str, ...]) -> None:
    _, command = loaded(path)
    options = [option for param in command.params for option in param.opts]
    assert ("--json" in options) != (path in WITHOUT_RESULT)


def test_help_is_ordered_by_subject() -> None:
    said = CommandLine(None)("--help").stdout
    panels = ["Start", "Month end", "Money", "Prices", "Access", "Watch", "Run the parts"]
    places = [said.index(f"─ {panel} ─") for panel in panels]
    assert places == sorted(places)
    assert "<bool>" not in said
    assert "Usage: metering [OPTIONS]" in said


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], ["keys", "--help"], ["invoices", "-h"]])
def test_lists_of_commands_import_no_database(arguments: list[str]) -> None:
    heavy = ("sqlalchemy", "psycopg", "pydantic_settings", "fastapi", "reportlab", "pyarrow", "stripe", "redis")
    code = f"""
import sys
from metering.cli.main import main
sys.argv = ["metering", *{arguments!r}]
try:
    main()
except SystemExit:
    pass
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout
    assert ran.stderr == "[]\n"


# What a command may not import: packages that only others need.
FOREIGN = {
    ("verify",): ("sqlalchemy", "psycopg", "fastapi", "reportlab", "pyarrow", "stripe"),
    ("keys", "list"): ("fastapi", "reportlab", "pyarrow", "stripe", "alembic"),
    ("customers", "list"): ("fastapi", "reportlab", "pyarrow", "stripe", "alembic"),
    ("invoices", "list"): ("fastapi", "reportlab", "pyarrow", "stripe", "alembic"),
    ("streams", "show"): ("fastapi", "reportlab", "pyarrow", "stripe", "alembic"),
    ("totals",): ("fastapi", "reportlab", "pyarrow", "stripe", "alembic"),
}


@pytest.mark.parametrize("path", FOREIGN, ids=" ".join)
def test_a_command_imports_only_what_it_needs(path: tuple[str, ...]) -> None:
    code = f"""
import sys
from metering.cli.main import main
sys.argv = ["metering", *{list(path)!r}, "--help"]
try:
    main()
except SystemExit:
    pass
print([name for name in {FOREIGN[path]!r} if name in sys.modules], file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stderr == "[]\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("metering inv", ["invoices"]),
        ("metering keys r", ["rotate", "revoke"]),
        ("metering invoices list --st", ["--state"]),
        ("metering backlog list --state un", ["unpriced", "unmeasured"]),
    ],
)
def test_a_shell_completes_commands_options_and_values(typed: str, offered: list[str]) -> None:
    words = typed.split(" ")
    completing = CommandLine(
        None, _METERING_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(len(words) - 1)
    )
    assert completing.run_apart().stdout.split() == offered


def test_the_shells_script_can_be_shown_and_installed() -> None:
    said = CommandLine(None)("--help").stdout
    assert "--install-completion" in said
    assert "--show-completion" in said

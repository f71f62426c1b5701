"""Commands that are imported when they are used: each needs a part of the service, and lists of them nothing."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

MARKUP: Literal["markdown"] = "markdown"


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A command: its function's place as `module:function`, the sentence that lists it, its panel, an example."""

    place: str
    summary: str
    panel: str
    example: str | None = None


@dataclass(frozen=True, slots=True)
class LazyCommands:
    """A group: its summary and panel, and its commands, each with its app's place and its summary."""

    summary: str
    panel: str
    commands: Mapping[str, tuple[str, str]]


class PlainCommand(TyperCommand):
    """A command whose flags do not look as if they took a value."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types_of_flags(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            # Typer validates with pydantic, which puts this in front of every message.
            error.message = error.message.removeprefix("Value error, ")
            raise


class _Listed(TyperCommand):
    """A command that is listed but not imported. `load` makes the command that runs."""

    def __init__(self, name: str, *, summary: str, panel: str | None, place: str, example: str | None) -> None:
        super().__init__(name, callback=None, short_help=summary, rich_help_panel=panel)
        self._place = place
        self._example = example

    def load(self) -> TyperCommand:
        """The command that runs, with its options."""
        assert self.name is not None
        found = _import(self._place)
        if isinstance(found, typer.Typer):
            for each in found.registered_commands:
                each.cls = PlainCommand
        else:
            epilog = f"Example: metering {self._example}" if self._example else None
            function, found = found, typer.Typer()
            found.command(self.name, epilog=epilog, cls=PlainCommand)(function)
        found.rich_markup_mode = MARKUP
        # Without a callback, an app of one command would be that command.
        found.callback()(_nothing)
        command = typer.main.get_group(found).commands[self.name]
        assert isinstance(command, TyperCommand)
        return command


class LazyGroup(TyperGroup):
    """A group whose commands are imported when one is run, asked for its help, or completed."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, _Listed) else command, rest

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types_of_flags(super().get_params(ctx))


def lazy_group(commands: Mapping[str, LazyCommand | LazyCommands]) -> type[TyperGroup]:
    """The class of a group that has these commands, in their order."""

    class Group(LazyGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.commands = {name: _listed(name, each) for name, each in commands.items()}

    return Group


def _listed(name: str, each: LazyCommand | LazyCommands) -> TyperCommand | TyperGroup:
    if isinstance(each, LazyCommand):
        return _Listed(name, summary=each.summary, panel=each.panel, place=each.place, example=each.example)
    commands: dict[str, Any] = {
        command: _Listed(command, summary=summary, panel=None, place=place, example=None)
        for command, (place, summary) in each.commands.items()
    }
    return LazyGroup(
        name=name,
        commands=commands,
        help=each.summary,
        rich_help_panel=each.panel,
        rich_markup_mode=MARKUP,
        no_args_is_help=True,
    )


def _nothing() -> None:
    """The callback of a group without options."""


def _without_types_of_flags(params: list[Any]) -> list[Any]:
    for each in params:
        if isinstance(each, TyperOption) and each.is_flag:
            each.metavar = ""
    return params


def _import(place: str) -> Any:
    """What stands at `module:attribute`. The garbage collector, which would take a fifth of the time, is off.

    What is imported lives as long as the process, so the collector never looks at it.
    """
    module, attribute = place.split(":")
    gc.disable()
    try:
        return getattr(import_module(module), attribute)
    finally:
        gc.freeze()
        gc.enable()

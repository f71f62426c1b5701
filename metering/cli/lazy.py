"""Commands that are imported when they are used: each needs only a part of the service, and `--help` all of it."""

import gc
from collections import UserDict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A command or group: its place as `module:attribute`, its panel of the help, and an example of its use."""

    place: str
    panel: str
    example: str | None = None


class LazyCommands(UserDict[str, Any]):
    """Commands by name, imported when they are looked up."""

    def __getitem__(self, name: str) -> Any:
        command: LazyCommand = self.data[name]
        found = _import(command.place)
        holder = typer.Typer(rich_markup_mode="markdown")
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name, rich_help_panel=command.panel)
        else:
            epilog = f"Example: metering {command.example}" if command.example else None
            holder.command(name, rich_help_panel=command.panel, epilog=epilog)(found)
        return typer.main.get_group(holder).commands[name]


def _import(place: str) -> Any:
    """What stands at `module:attribute`. The garbage collector, which would take a fifth of the time, is off."""
    module, attribute = place.split(":")
    gc.disable()
    try:
        return getattr(import_module(module), attribute)
    finally:
        gc.enable()


def lazy_group(commands: Mapping[str, LazyCommand]) -> type[TyperGroup]:
    """The class of a group that has these commands, in their order."""

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.commands = LazyCommands(commands)

    return LazyGroup

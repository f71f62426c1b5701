"""Dated rows: find the row of a history that is in force. Each row is in force until the next one."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar


class Dated(Protocol):
    """A row that takes effect at a time."""

    @property
    def effective_from(self) -> datetime:
        """When the row takes effect."""


DatedT = TypeVar("DatedT", bound=Dated)
KeyT = TypeVar("KeyT", bound=Hashable)


def histories(rows: Iterable[DatedT], *, key: Callable[[DatedT], KeyT]) -> dict[KeyT, list[DatedT]]:
    """The rows by key, oldest first."""
    found: dict[KeyT, list[DatedT]] = {}
    for row in sorted(rows, key=lambda row: row.effective_from):
        found.setdefault(key(row), []).append(row)
    return found


def in_force(history: Sequence[DatedT], at: datetime) -> DatedT | None:
    """The row in force at `at`; None before the first. `history` is sorted, oldest first."""
    found: DatedT | None = None
    for row in history:
        if row.effective_from > at:
            break
        found = row
    return found

"""Dated rows: which of a history is in force at a moment. Each holds until the next one takes over."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar


class Dated(Protocol):
    """Something that takes effect at a moment."""

    @property
    def effective_from(self) -> datetime:
        """From when on it is in force."""


DatedT = TypeVar("DatedT", bound=Dated)
KeyT = TypeVar("KeyT", bound=Hashable)


def histories(rows: Iterable[DatedT], *, key: Callable[[DatedT], KeyT]) -> dict[KeyT, list[DatedT]]:
    """The rows of each key, oldest first."""
    found: dict[KeyT, list[DatedT]] = {}
    for row in sorted(rows, key=lambda row: row.effective_from):
        found.setdefault(key(row), []).append(row)
    return found


def in_force(history: Sequence[DatedT], at: datetime) -> DatedT | None:
    """The newest row that took effect by then; None before the first."""
    found: DatedT | None = None
    for row in history:
        if row.effective_from > at:
            break
        found = row
    return found

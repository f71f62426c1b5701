"""The orders of totals, and the condition that leaves the rows after a position in one of them."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from metering.core.money import EXACT


class Order(StrEnum):
    """Order of rows: by time and groups, as paging needs; by cost; or by the change from the compared range.

    Increases and decreases count alike for CHANGE, and not for RISE. EITHER returns the first rows by cost and the
    first rows by change, ordered by cost. BEFORE is the compared cost.
    """

    GROUP = "group"
    COST = "cost"
    STREAMS = "streams"
    BEFORE = "before"
    RISE = "rise"
    CHANGE = "change"
    EITHER = "either"


BY_COST = "usd_cents DESC, compared_usd_cents DESC"
BY_CHANGE = "abs(usd_cents - compared_usd_cents) DESC, usd_cents DESC"
# What each order compares, from the first on; then the groups.
_COMPARED_BY: Mapping[Order, tuple[str, ...]] = {
    Order.GROUP: (),
    Order.COST: ("usd_cents", "compared_usd_cents"),
    Order.STREAMS: ("stream_count", "usd_cents"),
    Order.BEFORE: ("compared_usd_cents", "usd_cents"),
    Order.RISE: ("usd_cents - compared_usd_cents", "usd_cents"),
    Order.CHANGE: ("abs(usd_cents - compared_usd_cents)", "usd_cents"),
    Order.EITHER: ("usd_cents", "compared_usd_cents"),
}


class Measured(Protocol):
    """What a row of totals is ordered by."""

    @property
    def usd_cents(self) -> Decimal:
        """The cost."""

    @property
    def compared_usd_cents(self) -> Decimal:
        """The cost in the compared range."""

    @property
    def stream_count(self) -> int:
        """The number of streams."""

    @property
    def position(self) -> tuple[str, ...]:
        """Its bucket and groups."""


def position_in(row: Measured, order: Order) -> tuple[str, ...]:
    """The position of a row in an order other than GROUP and EITHER, for the question about the next page."""
    now, before = row.usd_cents, row.compared_usd_cents
    values: Mapping[Order, tuple[Decimal | int, Decimal]] = {
        Order.COST: (now, before),
        Order.STREAMS: (row.stream_count, now),
        Order.BEFORE: (before, now),
        Order.RISE: (EXACT.subtract(now, before), now),
        Order.CHANGE: (abs(EXACT.subtract(now, before)), now),
    }
    texts = (f"{value:f}" if isinstance(value, Decimal) else str(value) for value in values[order])
    return (*texts, *row.position)


def ordered_by(order: Order, *, smallest_first: bool) -> Sequence[str]:
    """What rows are ordered by, before their groups."""
    direction = "ASC" if smallest_first else "DESC"
    return [f"{each} {direction}" for each in _COMPARED_BY[order]]


def after_position(
    position: Sequence[str] | None, *, order: Order, names: Sequence[str], smallest_first: bool
) -> tuple[str, Mapping[str, object]]:
    """The condition that leaves the rows after a position, and its parameters; `names` are those of groups."""
    if position is None:
        return "", {}
    compared = _COMPARED_BY[order]
    values, groups = position[: len(compared)], position[len(compared) :]
    parameters: dict[str, object] = {f"after_{name}": value for name, value in zip(names, groups, strict=True)}
    parameters |= {f"after_value_{place}": Decimal(value) for place, value in enumerate(values)}
    behind = f"({', '.join(names)}) > ({', '.join(f':after_{name}' for name in names)})"
    if not compared:
        return f"WHERE {behind}", parameters
    ours = f"({', '.join(compared)})"
    theirs = f"({', '.join(f'CAST(:after_value_{place} AS numeric)' for place in range(len(compared)))})"
    sign = ">" if smallest_first else "<"
    return f"WHERE {ours} {sign} {theirs} OR {ours} = {theirs} AND {behind}", parameters

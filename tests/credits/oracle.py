"""What grants come to by the words of the design alone: money as single units, each of which is somewhere.

Nothing here is shared with the product: amounts are counts of units, and a unit knows who has it.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

FREE, EXPIRED, VOIDED, REFUNDED = "free", "expired", "voided", "refunded"


@dataclass(slots=True)
class Unit:
    """A unit of a grant's money: free, gone, or paid for a stream."""

    where: str = FREE


@dataclass(slots=True)
class Purse:
    """A grant as its units. `last` is the time of its newest change."""

    name: str
    size: int
    priority: int
    starts: datetime
    ends: datetime | None
    created: datetime
    models: tuple[str, ...] = ()
    voided: bool = False
    last: datetime = field(init=False)
    units: list[Unit] = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.created
        self.units = [Unit() for _ in range(self.size)]

    @property
    def free(self) -> list[Unit]:
        return [unit for unit in self.units if unit.where == FREE]

    def over(self, at: datetime) -> bool:
        return self.ends is not None and at >= self.ends


class Oracle:
    """A customer's purses, and what the design says happens to them."""

    def __init__(self) -> None:
        self.purses: dict[str, Purse] = {}
        self.spent: dict[str, list[tuple[Purse, Unit]]] = defaultdict(list)

    def grant(self, purse: Purse) -> None:
        self.purses[purse.name] = purse

    def book(self, stream: str | None, units: int, *, model: str | None, now: datetime) -> int:
        """Book `units` (below 0 takes back); returns how many the grants paid, below 0: got back."""
        if units >= 0:
            return self._pay(stream, units, model, now)
        if stream is None:
            return 0
        back = 0
        while units + back < 0 and self.spent[stream]:
            purse, unit = self.spent[stream].pop()
            self._look(purse, now)
            unit.where = FREE
            purse.last = max(purse.last, now)
            if purse.voided or purse.over(purse.last):
                # It cannot be spent again: it is seen to come back and to leave.
                unit.where = VOIDED if purse.voided else EXPIRED
            back += 1
        return -back

    def _pay(self, stream: str | None, units: int, model: str | None, now: datetime) -> int:
        paid = 0
        far = datetime.max.replace(tzinfo=now.tzinfo)
        for purse in sorted(
            self.purses.values(), key=lambda each: (each.priority, each.ends or far, each.created, each.name)
        ):
            fits = not purse.models or model in purse.models
            if not fits or paid == units:
                continue
            self._look(purse, now)
            at = max(purse.last, now)
            if purse.voided or purse.starts > at or purse.over(at):
                continue
            for unit in purse.free[: units - paid]:
                unit.where = f"spent on {stream}"
                purse.last = at
                if stream is not None:
                    self.spent[stream].append((purse, unit))
                paid += 1
        return paid

    def end(self, name: str, units: int, where: str, *, now: datetime) -> None:
        """Refund or void the first free units."""
        purse = self.purses[name]
        self._look(purse, now)
        for unit in purse.free[:units]:
            unit.where = where
        purse.last = max(purse.last, now)
        purse.voided = purse.voided or where == VOIDED

    def left(self, name: str, *, now: datetime) -> int:
        """What can be spent of a purse."""
        purse = self.purses[name]
        return 0 if purse.over(max(now, purse.last)) else len(purse.free)

    def paid_for(self, stream: str) -> int:
        return len(self.spent[stream])

    def _look(self, purse: Purse, now: datetime) -> None:
        """Units that are over leave when they are next looked at."""
        if purse.over(max(purse.last, now)):
            if purse.free:
                assert purse.ends is not None
                purse.last = max(purse.last, purse.ends)
            for unit in purse.free:
                unit.where = EXPIRED

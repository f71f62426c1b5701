"""Budgets as the oracle keeps them: what each covers, and what is spent and held."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from metering.lab.money.entries import Entry, Key
from metering.lab.money.history import Row, optional_time, time_of

_ZERO = Fraction(0)


@dataclass(slots=True, kw_only=True)
class Held:
    """A hold as it is. `covers` counts output tokens."""

    key: Key
    model: str
    input_tokens: int
    api_key_id: str | None
    tags: Mapping[str, str]
    cents: Fraction
    covers: int
    state: str
    is_stopped: bool
    expires_at: datetime


@dataclass(slots=True)
class Budget:
    """A budget, what is spent in each of its windows by their starts, and what open holds hold."""

    row: Row
    held: Fraction = _ZERO
    windows: dict[datetime, datetime] = field(default_factory=dict)
    spent: defaultdict[datetime, Fraction] = field(default_factory=lambda: defaultdict(Fraction))

    @property
    def budget_id(self) -> str:
        """Its id."""
        name: str = self.row["budget_id"]
        return name

    @property
    def is_open(self) -> bool:
        """Whether it is enforced: made, summed and not ended."""
        return self.row["opened_at"] is not None and not self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether it was ended."""
        return self.row["ended_at"] is not None

    @property
    def is_prepaid(self) -> bool:
        """Whether the balance of the customer's grants is its limit."""
        return bool(self.row["budget_window"] == "prepaid")

    @property
    def customer_id(self) -> str:
        """The customer whose grants or spending it is about; empty for the deployment."""
        customer_id: str = self.row["customer_id"]
        return customer_id

    def covers(self, customer_id: str, api_key_id: str | None, tags: Mapping[str, str]) -> bool:
        """Whether spending of this customer, key and tags counts."""
        row = self.row
        match row["scope"]:
            case "deployment":
                return True
            case "customer":
                return bool(row["customer_id"] == customer_id)
            case "api_key":
                return bool(row["customer_id"] == customer_id and row["api_key_id"] == api_key_id)
            case _:
                return bool(row["customer_id"] == customer_id and tags.get(row["tag_name"]) == row["tag_value"])

    def counts(self, entry: Entry, tags: Mapping[str, str]) -> bool:
        """Whether an entry counts: it is covered, and filed in the first window or later."""
        counted_from = optional_time(self.row["counted_from"])
        assert counted_from is not None  # NOT NULL
        return entry.filed_at >= counted_from and self.covers(entry.customer_id, entry.api_key_id, tags)

    def window_at(self, at: datetime) -> datetime | None:
        """The start of the window that contains a time; None if it was not needed yet."""
        return next((start for start, end in self.windows.items() if start <= at < end), None)

    def limit(self, balance: Fraction) -> Fraction:
        """The most that may be spent and held together."""
        return balance if self.is_prepaid else Fraction(self.row["limit_usd_cents"])

    def spent_at(self, at: datetime) -> Fraction:
        """What is spent in the window that contains a time; what grants paid is not in their balance any more."""
        start = None if self.is_prepaid else self.window_at(at)
        return _ZERO if start is None else self.spent[start]


@dataclass(slots=True)
class Budgets:
    """All budgets, and the entries that a new one has to count."""

    _by_customer: defaultdict[str, dict[str, Budget]] = field(default_factory=lambda: defaultdict(dict))
    _entries: defaultdict[str, list[tuple[Entry, Mapping[str, str]]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def of(self, customer_id: str) -> Iterable[Budget]:
        """The budgets of a customer and of the deployment that have not ended."""
        for owner in (customer_id, ""):
            if owner in self._by_customer:
                yield from (each for each in self._by_customer[owner].values() if not each.has_ended)

    def named(self, row: Row) -> Budget | None:
        """The budget of a row of `budgets`."""
        return self._by_customer[row["customer_id"]].get(row["budget_id"])

    def all(self) -> Iterable[Budget]:
        """All of them, also those that have ended: they can begin again."""
        return [budget for of_one in self._by_customer.values() for budget in of_one.values()]

    def set(self, row: Row, holds: Iterable[Held]) -> None:
        """Take a new row of a budget. When it opens, it counts what was booked before, and all open holds."""
        budget = self.named(row)
        if budget is None:
            budget = self._by_customer[row["customer_id"]][row["budget_id"]] = Budget(row)
        was_open, budget.row = budget.is_open, row
        if budget.is_open and not was_open:
            self._open(budget, holds)

    def _open(self, budget: Budget, holds: Iterable[Held]) -> None:
        owners = list(self._entries) if budget.customer_id == "" else [budget.customer_id]
        budget.spent.clear()
        if not budget.is_prepaid:
            for owner in owners:
                for entry, tags in self._entries.get(owner, ()):
                    if budget.counts(entry, tags) and (start := budget.window_at(entry.filed_at)) is not None:
                        budget.spent[start] += entry.cents
        budget.held = sum(
            (hold.cents for hold in holds if budget.covers(hold.key[0], hold.api_key_id, hold.tags)), _ZERO
        )

    def book(self, entry: Entry, tags: Mapping[str, str]) -> dict[str, datetime | None] | None:
        """Count an entry; returns the windows that it counts in, by budget. None: no budget covers it."""
        self._entries[entry.customer_id].append((entry, tags))
        counting = [budget for budget in self.of(entry.customer_id) if budget.counts(entry, tags)]
        windows: dict[str, datetime | None] = {}
        for budget in counting:
            if budget.is_prepaid:
                continue
            start = windows[budget.budget_id] = budget.window_at(entry.filed_at)
            if start is not None and budget.is_open:
                budget.spent[start] += entry.cents
        return windows if counting else None

    def hold(self, hold: Held, cents: Fraction) -> list[Budget]:
        """Set an amount aside for a stream, or give it back; returns the budgets that it counts against."""
        held = [
            budget
            for budget in self.of(hold.key[0])
            if budget.is_open and budget.covers(hold.key[0], hold.api_key_id, hold.tags)
        ]
        for budget in held:
            budget.held += cents
        return held

    def add_window(self, row: Row) -> Budget | None:
        """Take a new window; returns its budget."""
        for budget in self.all():
            if budget.budget_id == row["budget_id"]:
                budget.windows[time_of(row["starts_at"])] = time_of(row["ends_at"])
                return budget
        return None

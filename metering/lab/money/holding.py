"""What budgets allow and holds set aside, by the words of docs/budgets.md: followed transaction by transaction."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction

from metering.lab.money.budgets import Budget, Budgets, Held
from metering.lab.money.entries import Entry, Key, Started, shown
from metering.lab.money.history import Row, Transaction, time_of

_ZERO = Fraction(0)
# Whoever closes a hold must know of a stream whose first event was received this long before. It is not shorter,
# because the clocks of two processes may differ.
_KNOWN_AFTER = timedelta(minutes=1)

# The price of (model, input tokens, output tokens) in cents; None if it is not to be checked.
Price = Callable[[str, int, int], Fraction | None]
Balance = Callable[[str, datetime], Fraction]


@dataclass(slots=True)
class Holding:
    """The budgets and holds after the transactions so far. `counted` has what happened."""

    started: Mapping[Key, Started]
    price: Price
    balance: Balance
    counted: Counter[str] = field(default_factory=Counter)
    budgets: Budgets = field(default_factory=Budgets)
    _holds: dict[Key, Held] = field(default_factory=dict)
    _open: dict[Key, Held] = field(default_factory=dict)
    _charged: dict[Key, Fraction] = field(default_factory=dict)

    @property
    def open_holds(self) -> Sequence[Key]:
        """The streams that hold something now."""
        return list(self._open)

    def follow(self, transaction: Transaction, entries: Sequence[Entry]) -> list[str]:
        """Follow a transaction; returns what is wrong with it."""
        for row in transaction.inserted("budgets"):
            self.budgets.set(row, self._open.values())
        for row in transaction.inserted("budget_windows"):
            self.budgets.add_window(row)
        problems = self._follow_bookings(transaction, entries)
        for row in transaction.updated("budgets"):
            if _terms(row) != _terms(getattr(self.budgets.named(row), "row", None)):
                self.budgets.set(row, self._open.values())
        raised = self._follow_holds(transaction, problems)
        problems += self._unsettled(entries)
        if raised:
            problems += self._check_limits(transaction, raised)
        return problems + self._check_counters(transaction)

    def _follow_bookings(self, transaction: Transaction, entries: Sequence[Entry]) -> list[str]:
        """Each entry counts where it has to, and what exceeds the hold has its reason."""
        postings: dict[str, Fraction] = {}
        overruns: dict[str, tuple[str, Fraction, Fraction]] = {}
        for entry in entries:
            tags = self.started[entry.key].tags if entry.key in self.started else {}
            windows = self.budgets.book(entry, tags)
            if entry.kind == "charge":
                self._charged[entry.key] = entry.cents
            for budget_id, start in (windows or {}).items():
                postings[f"{entry.entry_id} in {budget_id} from {start}"] = entry.cents
            if windows is not None and (overrun := self._overrun(entry)):
                overruns[entry.entry_id] = overrun
                self.counted[f"overrun {overrun[0]}"] += 1
        found = {
            f"{row['entry_id']} in {row['budget_id']} from {time_of(row['window_starts_at'])}": Fraction(
                row["usd_cents"]
            )
            for row in transaction.inserted("budget_postings")
        }
        said = {
            row["entry_id"]: (row["reason"], Fraction(row["usd_cents"]), Fraction(row["held_usd_cents"]))
            for row in transaction.inserted("overruns")
        }
        self.counted["postings"] += len(found)
        return [*_differing("posting", found, postings), *_differing("overrun", said, overruns)]

    def _overrun(self, entry: Entry) -> tuple[str, Fraction, Fraction] | None:
        """The reason and amount of what an entry books beyond the hold of its stream, and the hold's amount."""
        hold = self._holds.get(entry.key)
        covered = hold.cents if hold is not None and hold.state == "open" else _ZERO
        beyond = entry.cents - covered
        if entry.kind == "manual" or beyond <= 0:
            return None
        if entry.kind == "charge":
            started = self.started.get(entry.key)
            without = "failed_open" if started is not None and started.failed_open else "no_hold"
            states = {"open": "counted_more", "expired": "hold_expired"}
            reason = without if hold is None else states.get(hold.state, without)
        else:
            reason = {"late_facts": "late_usage", "rerate": "rerated"}[entry.kind]
        return reason, beyond, covered

    def _follow_holds(self, transaction: Transaction, problems: list[str]) -> list[Budget]:
        """Follow the holds of a transaction; returns the budgets in which it holds more than before."""
        raised: list[Budget] = []
        for row in transaction.deleted("holds"):
            key = (row["customer_id"], row["stream_id"])
            if self._holds.pop(key).state == "open":
                problems.append(f"the open hold of {key} was removed")
        for row in transaction.inserted("holds"):
            raised += self._admit(row, problems)
        for row in transaction.updated("holds"):
            raised += self._change(row, problems)
        return raised

    def _admit(self, row: Row, problems: list[str]) -> list[Budget]:
        request = row["request"]
        hold = Held(
            key=(row["customer_id"], row["stream_id"]),
            model=request["model"],
            input_tokens=request["input_tokens"],
            api_key_id=request["api_key_id"],
            tags=request["tags"],
            cents=Fraction(row["held_usd_cents"]),
            covers=row["covers_output_tokens"],
            state=row["state"],
            is_stopped=row["is_stopped"],
            expires_at=time_of(row["expires_at"]),
        )
        if hold.key in self._holds or hold.key in self._charged:
            problems.append(f"{hold.key} was admitted twice, or after its charge")
        self._holds[hold.key] = self._open[hold.key] = hold
        self.counted["admitted"] += 1
        self.counted["most open at once"] = max(len(self._open), self.counted["most open at once"])
        self._check_price(hold, problems)
        return self.budgets.hold(hold, hold.cents)

    def _change(self, row: Row, problems: list[str]) -> list[Budget]:
        hold = self._holds[row["customer_id"], row["stream_id"]]
        before, state, cents = hold.cents, row["state"], Fraction(row["held_usd_cents"])
        if hold.state != "open":
            problems.append(f"the closed hold of {hold.key} was changed")
            return []
        hold.cents, hold.covers, hold.state = cents, row["covers_output_tokens"], state
        self.counted["stopped"] += row["is_stopped"] and not hold.is_stopped
        hold.is_stopped = row["is_stopped"]
        if state == "open":
            hold.expires_at = time_of(row["expires_at"])
            if cents == before:
                return []
            self.counted["extended"] += 1
            self._check_price(hold, problems)
            budgets = self.budgets.hold(hold, cents - before)
            return budgets if cents > before else []
        self._check_close(hold, row, problems)
        del self._open[hold.key]
        self.counted[state] += 1
        self.budgets.hold(hold, -before)
        return []

    def _check_close(self, hold: Held, row: Row, problems: list[str]) -> None:
        closed_at, started = time_of(row["closed_at"]), self.started.get(hold.key)
        if hold.state == "settled":
            if self._charged.get(hold.key) != Fraction(row["settled_usd_cents"]):
                problems.append(f"the hold of {hold.key} was settled for another amount than its charge, or none")
        elif started is not None and started.first_received_at + _KNOWN_AFTER < closed_at:
            problems.append(f"the hold of {hold.key} was {hold.state} although its stream had begun")
        if hold.state == "expired" and closed_at < hold.expires_at:
            problems.append(f"the hold of {hold.key} expired before its lease had ended")

    def _check_price(self, hold: Held, problems: list[str]) -> None:
        price = self.price(hold.model, hold.input_tokens, hold.covers)
        if price is not None and price != hold.cents:
            problems.append(f"{hold.key} holds {shown(hold.cents)} cents, not {shown(price)}")

    def _unsettled(self, entries: Sequence[Entry]) -> list[str]:
        return [
            f"the charge of {entry.key} left its hold open"
            for entry in entries
            if entry.kind == "charge" and entry.key in self._open
        ]

    def _check_limits(self, transaction: Transaction, raised: Sequence[Budget]) -> list[str]:
        """`spent + held <= limit` at the commit of an admission."""
        made = transaction.inserted("holds")
        now = time_of(made[0]["made_at"]) if made else transaction.at
        problems = []
        for budget in {budget.budget_id: budget for budget in raised}.values():
            self.counted["limits checked"] += 1
            if budget.row["action"] != "refuse":
                continue
            spent, limit = budget.spent_at(now), budget.limit(self.balance(budget.customer_id, now))
            if spent + budget.held > limit:
                problems.append(
                    f"budget {budget.budget_id} admitted beyond its limit at {now}: {shown(spent)} spent and"
                    f" {shown(budget.held)} held of {shown(limit)}"
                )
        return problems

    def _check_counters(self, transaction: Transaction) -> list[str]:
        """What the product keeps as spent and held is what it is."""
        counters = {row["budget_id"]: row for row in transaction.updated("budgets")}
        windows = {(row["budget_id"], row["starts_at"]): row for row in transaction.updated("budget_windows")}
        open_budgets = {each.budget_id: each for each in self.budgets.all() if each.is_open}
        problems = []
        for budget_id, row in counters.items():
            budget, held = open_budgets.get(budget_id), Fraction(row["held_usd_cents"])
            if budget is not None and budget.held != held:
                problems.append(f"budget {budget_id} says {shown(held)} held, not {shown(budget.held)}")
        for (budget_id, starts_at), row in windows.items():
            budget, spent = open_budgets.get(budget_id), Fraction(row["spent_usd_cents"])
            if budget is not None and (real := budget.spent[time_of(starts_at)]) != spent:
                problems.append(f"budget {budget_id} says {shown(spent)} spent, not {shown(real)}")
        return problems


def _terms(row: Row | None) -> dict[str, object] | None:
    return None if row is None else {name: value for name, value in row.items() if name != "held_usd_cents"}


def _differing(what: str, found: Mapping[str, object], expected: Mapping[str, object]) -> list[str]:
    return [
        f"{what} {name}: {_told(found.get(name))}, not {_told(expected.get(name))}"
        for name in {*found, *expected}
        if found.get(name) != expected.get(name)
    ]


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_told, value))
    return shown(value) if isinstance(value, Fraction) else str(value)

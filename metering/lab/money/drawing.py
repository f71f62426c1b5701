"""What grants pay, by the words of docs/credits.md: followed transaction by transaction, and compared."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

from metering.lab.money.entries import Entry, Key, shown
from metering.lab.money.history import Row, Transaction, optional_time, time_of

_NEVER = datetime.max.replace(tzinfo=UTC)
_ZERO = Fraction(0)
# (grant, kind, cents, entry)
_Line = tuple[str, str, Fraction, str]


@dataclass(slots=True, kw_only=True)
class _Grant:
    """A grant: what is left of it, and the time of its newest entry."""

    grant_id: str
    amount: Fraction
    order: tuple[int, datetime, datetime, str]
    effective_from: datetime
    expires_at: datetime
    providers: Sequence[str]
    models: Sequence[str]
    changed_at: datetime
    left: Fraction = _ZERO
    is_voided: bool = False

    def is_over(self, at: datetime) -> bool:
        return self.is_voided or at >= self.expires_at

    def pays(self, entry: Entry, at: datetime) -> bool:
        return (
            bool(self.left)
            and not self.is_over(at)
            and self.effective_from <= at
            and (not self.providers or entry.provider in self.providers)
            and (not self.models or entry.model in self.models)
        )


@dataclass(slots=True)
class Drawing:
    """The grants of all customers after the transactions so far. `counted` has what happened."""

    counted: Counter[str] = field(default_factory=Counter)
    _grants: defaultdict[str, dict[str, _Grant]] = field(default_factory=lambda: defaultdict(dict))
    # What each stream costs so far.
    _costs: defaultdict[Key, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    # Of each stream: who paid how much, in the order of paying.
    _paid: defaultdict[Key, list[tuple[str, Fraction]]] = field(default_factory=lambda: defaultdict(list))

    def balance(self, customer_id: str, at: datetime) -> Fraction:
        """What a prepaid budget may count on: grants that pay for every model, now."""
        return sum(
            (
                grant.left
                for grant in self._grants[customer_id].values()
                if not (grant.is_over(at) or grant.providers or grant.models) and grant.effective_from <= at
            ),
            _ZERO,
        )

    def follow(self, transaction: Transaction, entries: Sequence[Entry]) -> list[str]:
        """Follow a transaction; returns what is wrong with it."""
        for row in transaction.inserted("grants"):
            self._add(row)
        for entry in entries:
            self._costs[entry.key] += entry.cents
        rows = transaction.inserted("grant_entries")
        problems: list[str] = []
        customers = {entry.customer_id for entry in entries if self._grants.get(entry.customer_id)}
        for customer_id in customers | {row["customer_id"] for row in rows}:
            of_customer = [entry for entry in entries if entry.customer_id == customer_id]
            found = [
                _line(row) for row in rows if row["customer_id"] == customer_id and row["entry_id"] is not None
            ]
            problems += self._compare(of_customer, found)
        problems += [problem for row in rows if (problem := self._follow_row(row))]
        return problems + self._left_over(rows)

    def _compare(self, entries: Sequence[Entry], found: Sequence[_Line]) -> list[str]:
        """What a transaction's entries of a customer draw and give back, and what the product did.

        The order within a transaction is the product's to choose: it is that of the lines. An entry without a line
        came when it had nothing to draw or to give back: before the others, or after one of them.
        """
        place = {entry_id: number for number, (_, _, _, entry_id) in reversed(list(enumerate(found)))}
        booked = sorted(
            (entry for entry in entries if entry.entry_id in place), key=lambda entry: place[entry.entry_id]
        )
        idle = [entry for entry in entries if entry.entry_id not in place and self._concerns(entry)]
        expected: list[_Line] = []
        for entry in booked:
            expected += self._book(entry)
            idle = [each for each in idle if self._concerns(each)]
        problems = [f"grants of {entry.customer_id} paid nothing for {entry.entry_id}" for entry in idle]
        if expected != found:
            problems.append(f"grants paid {_told(found)}, not {_told(expected)}")
        return problems

    def _concerns(self, entry: Entry) -> bool:
        """Whether an entry draws or gives back anything now."""
        if entry.cents <= 0:
            return entry.cents < 0 and bool(self._paid.get(entry.key))
        grants = self._grants[entry.customer_id].values()
        return self._owed(entry) > 0 and any(
            grant.pays(entry, max(entry.booked_at, grant.changed_at)) for grant in grants
        )

    def _owed(self, entry: Entry) -> Fraction:
        """What grants may pay for an entry: after a credit beyond its cost, a stream may cost less than that."""
        cost = entry.cents if entry.stream_id is None else self._costs[entry.key]
        return min(entry.cents, max(cost, _ZERO))

    def _add(self, row: Row) -> None:
        created, expires = time_of(row["created_at"]), optional_time(row["expires_at"]) or _NEVER
        self._grants[row["customer_id"]][row["grant_id"]] = _Grant(
            grant_id=row["grant_id"],
            amount=Fraction(row["amount_usd_cents"]),
            order=(row["priority"], expires, created, row["grant_id"]),
            effective_from=time_of(row["effective_from"]),
            expires_at=expires,
            providers=row["only_providers"] or (),
            models=row["only_models"] or (),
            changed_at=created,
        )

    def _book(self, entry: Entry) -> Iterable[_Line]:
        """What an entry draws, or gives back."""
        if entry.cents > 0:
            return self._draw(entry)
        return self._restore(entry) if entry.stream_id is not None else ()

    def _draw(self, entry: Entry) -> Iterable[_Line]:
        owed = self._owed(entry)
        left = [grant for grant in self._grants[entry.customer_id].values() if grant.left]
        for grant in sorted(left, key=lambda each: each.order):
            at = max(entry.booked_at, grant.changed_at)
            if not owed or not grant.pays(entry, at):
                continue
            taken = min(owed, grant.left)
            owed, grant.left, grant.changed_at = owed - taken, grant.left - taken, at
            if entry.stream_id is not None:
                self._paid[entry.key].append((grant.grant_id, taken))
            yield grant.grant_id, "drawn", -taken, entry.entry_id

    def _restore(self, entry: Entry) -> Iterable[_Line]:
        """The last one that paid gets its money back first."""
        back, paid = -entry.cents, self._paid[entry.key]
        while back and paid:
            grant_id, amount = paid.pop()
            given = min(back, amount)
            back -= given
            if given < amount:
                paid.append((grant_id, amount - given))
            grant = self._grants[entry.customer_id][grant_id]
            grant.changed_at = max(entry.booked_at, grant.changed_at)
            if not grant.is_over(grant.changed_at):
                grant.left += given
            yield grant_id, "restored", given, entry.entry_id

    def _follow_row(self, row: Row) -> str:
        """What is wrong with an entry of a grant; empty if nothing is."""
        grant, kind, cents = (
            self._grants[row["customer_id"]][row["grant_id"]],
            row["kind"],
            Fraction(row["usd_cents"]),
        )
        self.counted[kind] += 1
        booked_at = time_of(row["booked_at"])
        problem = ""
        match kind:
            case "granted":
                problem = "" if cents == grant.amount else "is not its amount"
                grant.left += cents
            case "expired":
                problem = "" if booked_at >= grant.expires_at else "is before its expiry"
                grant.left = _ZERO
            case "voided":
                grant.left, grant.is_voided = _ZERO, True
            case "refunded":
                problem = "" if -cents <= grant.left else "is more than what is left"
                grant.left += cents
        grant.changed_at = max(grant.changed_at, booked_at)
        return f"grant {grant.grant_id}: {kind} {shown(cents)} {problem}" if problem else ""

    def _left_over(self, rows: Sequence[Row]) -> list[str]:
        """The newest entry of each grant says what is left of it; nothing is left of one that is over."""
        problems = []
        for grant_id, row in {row["grant_id"]: row for row in rows}.items():
            left, real = Fraction(row["balance_usd_cents"]), self._grants[row["customer_id"]][grant_id].left
            if left != real:
                problems.append(f"grant {grant_id}: {shown(left)} cents are left, not {shown(real)}")
        return problems


def _line(row: Row) -> _Line:
    return row["grant_id"], row["kind"], Fraction(row["usd_cents"]), row["entry_id"]


def _told(lines: Iterable[_Line]) -> list[str]:
    return [f"{grant_id} {kind} {shown(cents)} for {entry_id}" for grant_id, kind, cents, entry_id in lines]

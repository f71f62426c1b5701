"""Drawing: which grants pay for a booking, and what a booking below zero gives back to them.

Grants pay in the order of booking and are never sorted again: a late event cannot change who paid for what. A
booking below zero restores the draws of its stream, the last one first. What a grant gets back after it expired or
was voided leaves it at once, as an entry of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from metering.core.money import EXACT, ZERO
from metering.core.period import BillingPeriod
from metering.credits.booking import Booking
from metering.credits.grant import EntryKind, Grant, GrantEntry, GrantState, drawing_order
from metering.credits.revenue import Earned, after_draw, after_end


class Paid(Struct, frozen=True, gc=False):
    """What a grant has paid for a stream and not got back."""

    grant_id: str
    usd_cents: Decimal


def paid_after(draws: Iterable[Paid]) -> list[Paid]:
    """What is paid for a stream after its draws and restored amounts (below zero), given in their order."""
    paid: list[Paid] = []
    for each in draws:
        if each.usd_cents > 0:
            paid.append(each)
            continue
        left = each.usd_cents.copy_negate()
        while left and paid:
            last = paid.pop()
            taken = min(left, last.usd_cents)
            left = EXACT.subtract(left, taken)
            if taken != last.usd_cents:
                paid.append(Paid(last.grant_id, EXACT.subtract(last.usd_cents, taken)))
    return paid


def add_entry(
    grant: Grant,
    *,
    kind: EntryKind,
    usd_cents: Decimal,
    at: datetime,
    period: str,
    entry_id: str | None = None,
    stream_id: str | None = None,
    entry_period: str | None = None,
    reason: str | None = None,
    booked_by: str | None = None,
) -> tuple[Grant, GrantEntry]:
    """The grant after an entry of `usd_cents` (above zero adds), and the entry."""
    balance = EXACT.add(grant.balance_usd_cents, usd_cents)
    earned = _earned(grant, kind, usd_cents, balance)
    booked_at = max(at, grant.changed_at)
    entry = GrantEntry(
        customer_id=grant.customer_id,
        grant_id=grant.grant_id,
        entry_number=grant.entry_count + 1,
        kind=kind,
        usd_cents=usd_cents,
        balance_usd_cents=balance,
        released_cents=earned.released_cents - grant.earned.released_cents,
        booked_at=booked_at,
        period=max(period, grant.sold_period or period),
        entry_id=entry_id,
        stream_id=stream_id,
        entry_period=entry_period,
        reason=reason,
        booked_by=booked_by,
    )
    changed = replace(
        grant,
        balance_usd_cents=balance,
        entry_count=entry.entry_number,
        changed_at=booked_at,
        sold_period=grant.sold_period or entry.period,
        earned=earned,
    )
    return changed, entry


def _earned(grant: Grant, kind: EntryKind, usd_cents: Decimal, balance: Decimal) -> Earned:
    if kind is EntryKind.GRANTED:
        return grant.earned
    terms = {"paid": grant.paid_usd_cents, "amount": grant.amount_usd_cents, "balance": balance}
    if kind in (EntryKind.DRAWN, EntryKind.RESTORED):
        return after_draw(grant.earned, usd_cents.copy_negate(), **terms)
    return after_end(grant.earned, **terms)


def month_of(at: datetime, *, time_zone: ZoneInfo) -> str:
    """The month of a time, as `2026-11`."""
    return str(BillingPeriod.containing(at=at, time_zone=time_zone))


def expire(grant: Grant, *, at: datetime, time_zone: ZoneInfo) -> tuple[Grant, list[GrantEntry]]:
    """The grant with the entry of its expiry, if it has expired by `at` with something left and without one."""
    if not grant.expired(at) or not grant.balance_usd_cents or grant.expires_at is None:
        return grant, []
    expired, entry = add_entry(
        grant,
        kind=EntryKind.EXPIRED,
        usd_cents=grant.balance_usd_cents.copy_negate(),
        at=grant.expires_at,
        period=month_of(grant.expires_at, time_zone=time_zone),
    )
    return expired, [entry]


@dataclass(slots=True)
class Drawing:
    """The grants of a customer while bookings are posted, and the entries that they make.

    `paid` has what grants have paid for each stream, in the order of drawing. `costs` has what streams cost after
    these bookings, for those whose cost an adjustment raises: grants pay no more for a stream than it costs.
    """

    grants: dict[str, Grant]
    time_zone: ZoneInfo
    paid: dict[str, list[Paid]] = field(default_factory=dict)
    costs: Mapping[str, Decimal] = field(default_factory=dict)
    entries: list[GrantEntry] = field(default_factory=list)
    _order: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        grants: Iterable[Grant],
        *,
        paid: Mapping[str, Sequence[Paid]],
        time_zone: ZoneInfo,
        costs: Mapping[str, Decimal] | None = None,
    ) -> "Drawing":
        """A customer's grants, what they have paid for the streams of the bookings, and what those cost."""
        ordered = sorted(grants, key=drawing_order)
        return cls(
            {each.grant_id: each for each in ordered},
            time_zone,
            {stream_id: list(each) for stream_id, each in paid.items()},
            costs or {},
            _order=[each.grant_id for each in ordered],
        )

    def post(self, booking: Booking, *, now: datetime) -> None:
        """Pay for a booking as far as the grants reach, or give back what it takes back."""
        if booking.usd_cents > 0:
            self._draw(booking, now)
        elif booking.usd_cents and booking.stream_id is not None:
            self._restore(booking, booking.stream_id, now)

    def _draw(self, booking: Booking, now: datetime) -> None:
        left = booking.usd_cents
        if (cost := self.costs.get(booking.stream_id or "")) is not None:
            left = min(left, max(cost, ZERO))
        for grant_id in self._order:
            if not left:
                return
            grant = self.grants[grant_id]
            at = max(now, grant.changed_at)
            if not grant.limits.allow(provider=booking.provider, model=booking.model):
                continue
            self._expire(grant, at)
            grant = self.grants[grant_id]
            if not grant.pays_at(at):
                continue
            taken = min(left, grant.balance_usd_cents)
            self._add(booking, grant, EntryKind.DRAWN, taken.copy_negate(), at)
            left = EXACT.subtract(left, taken)
            if booking.stream_id is not None:
                self.paid.setdefault(booking.stream_id, []).append(Paid(grant_id, taken))

    def _restore(self, booking: Booking, stream_id: str, now: datetime) -> None:
        left = booking.usd_cents.copy_negate()
        paid = self.paid.get(stream_id, [])
        while left and paid:
            last = paid.pop()
            given = min(left, last.usd_cents)
            left = EXACT.subtract(left, given)
            if given != last.usd_cents:
                paid.append(Paid(last.grant_id, EXACT.subtract(last.usd_cents, given)))
            grant = self.grants[last.grant_id]
            at = max(now, grant.changed_at)
            self._expire(grant, at)
            self._add(booking, self.grants[last.grant_id], EntryKind.RESTORED, given, at)
            self._take_back(booking, self.grants[last.grant_id], given, at)

    def _take_back(self, booking: Booking, grant: Grant, given: Decimal, at: datetime) -> None:
        """Take what a grant that has ended got back, so that it cannot be spent."""
        if grant.state is GrantState.VOIDED:
            kind = EntryKind.VOIDED
        elif grant.expired(at):
            kind = EntryKind.EXPIRED
        else:
            return
        self._keep(add_entry(grant, kind=kind, usd_cents=given.copy_negate(), at=at, period=booking.period))

    def _add(self, booking: Booking, grant: Grant, kind: EntryKind, usd_cents: Decimal, at: datetime) -> None:
        self._keep(
            add_entry(
                grant,
                kind=kind,
                usd_cents=usd_cents,
                at=at,
                period=booking.period,
                entry_id=booking.entry_id,
                stream_id=booking.stream_id,
                entry_period=booking.period,
            )
        )

    def _expire(self, grant: Grant, at: datetime) -> None:
        changed, entries = expire(grant, at=at, time_zone=self.time_zone)
        self.grants[grant.grant_id] = changed
        self.entries.extend(entries)

    def _keep(self, added: tuple[Grant, GrantEntry]) -> None:
        grant, entry = added
        self.grants[grant.grant_id] = grant
        self.entries.append(entry)


def balance_as_of(entries: Iterable[GrantEntry], *, expires_at: datetime | None, at: datetime) -> Decimal:
    """What was left of a grant at `at`, from all of its entries in their order."""
    if expires_at is not None and at >= expires_at:
        return ZERO
    balance = ZERO
    for each in entries:
        if each.booked_at <= at:
            balance = each.balance_usd_cents
    return balance

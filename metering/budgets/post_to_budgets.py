"""Post to budgets: when charges are booked, close their holds and move the amounts from held to spent.

Booking is the settling of a hold: there is no other call for it that could be lost, repeated or come too late.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection

from metering.budgets.budget import Budget, BudgetWindow
from metering.budgets.holds import Hold, HoldState, Overrun, StreamKey, overrun_of
from metering.budgets.store.budgets import (
    BudgetPosting,
    CountedBudget,
    StoredWindow,
    add_postings,
    add_spent,
    adding_held,
    budgets_of,
    windows_at,
)
from metering.budgets.store.holds import ClosedHold, add_overruns, close_holds, read_holds
from metering.core.money import EXACT, ZERO
from metering.credits.booking import Booking, BookingKind
from metering.db.together import run_together

# Days and months start at a quarter of an hour in UTC, in every time zone of these years.
_QUARTER = timedelta(minutes=15)


def post_to_budgets(connection: Connection, bookings: Sequence[Booking], *, now: datetime) -> None:
    """Post the bookings of a transaction, whose customers' accounts it has locked.

    Every booking counts against the budgets that cover it, in the window of its stream's end; what exceeds the
    stream's hold is recorded as an overrun.
    """
    counted = budgets_of(connection, {booking.customer_id for booking in bookings})
    streams = {(booking.customer_id, booking.stream_id) for booking in bookings if booking.stream_id is not None}
    holds = read_holds(connection, streams)
    matches = [(each, booking) for booking in bookings for each in _covering(counted, booking)]
    _add_to_windows(connection, matches)
    covered = {booking.entry_id for _, booking in matches}
    overruns = [_overrun(booking, holds) for booking in bookings if booking.entry_id in covered]
    add_overruns(connection, [each for each in overruns if each is not None])
    _settle(connection, bookings, holds, counted, now)


def _covering(counted: Sequence[CountedBudget], booking: Booking) -> list[Budget]:
    return [
        each.budget
        for each in counted
        if each.budget.scope.covers(
            customer_id=booking.customer_id, api_key_id=booking.api_key_id, tags=booking.tags
        )
        and booking.filed_at >= each.counted_from
    ]


def _add_to_windows(connection: Connection, matches: Sequence[tuple[Budget, Booking]]) -> None:
    dated = [(budget, booking) for budget, booking in matches if budget.window is not BudgetWindow.PREPAID]
    if not dated:
        return
    windows = windows_at(connection, [(budget, _quarter(booking.filed_at)) for budget, booking in dated])
    spent: dict[tuple[str, datetime], tuple[StoredWindow, Decimal]] = {}
    postings: list[BudgetPosting] = []
    for budget, booking in dated:
        window = windows[budget.budget_id, _quarter(booking.filed_at)]
        key = (budget.budget_id, window.span.starts_at)
        _, before = spent.get(key, (window, ZERO))
        spent[key] = (window, EXACT.add(before, booking.usd_cents))
        postings.append(
            BudgetPosting(
                customer_id=booking.customer_id,
                entry_id=booking.entry_id,
                budget_id=budget.budget_id,
                window_starts_at=window.span.starts_at,
                usd_cents=booking.usd_cents,
                booked_at=booking.booked_at,
            )
        )
    add_postings(connection, postings)
    add_spent(connection, spent.values())


def _quarter(at: datetime) -> datetime:
    """The quarter of an hour that contains `at`: many bookings share one, and with it their windows."""
    return at - timedelta(minutes=at.minute % 15, seconds=at.second, microseconds=at.microsecond)


def _overrun(booking: Booking, holds: dict[StreamKey, Hold]) -> Overrun | None:
    hold = holds.get((booking.customer_id, booking.stream_id or ""))
    if hold is None:
        return overrun_of(booking, held=ZERO, state=None)
    return overrun_of(booking, held=hold.held_usd_cents, state=hold.state)


def _settle(
    connection: Connection,
    bookings: Sequence[Booking],
    holds: dict[StreamKey, Hold],
    counted: Sequence[CountedBudget],
    now: datetime,
) -> None:
    """Close the open holds of streams whose charge is booked, and give back what they held."""
    budgets = {each.budget.budget_id: each.budget for each in counted}
    freed: dict[str, Decimal] = {}
    closed: list[ClosedHold] = []
    for booking in bookings:
        hold = holds.get((booking.customer_id, booking.stream_id or ""))
        if booking.kind is not BookingKind.CHARGE or hold is None or hold.state is not HoldState.OPEN:
            continue
        closed.append(
            ClosedHold(
                customer_id=booking.customer_id,
                stream_id=hold.request.stream_id,
                state=HoldState.SETTLED,
                settled_usd_cents=booking.usd_cents,
            )
        )
        for budget_id in hold.budget_ids:
            freed[budget_id] = EXACT.subtract(freed.get(budget_id, ZERO), hold.held_usd_cents)
    close_holds(connection, closed, now=now)
    held = [(budgets[each], amount) for each, amount in freed.items() if each in budgets]
    run_together(connection, *adding_held(held))

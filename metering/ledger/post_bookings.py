"""Post what was booked: draw the customers' grants and move their budgets, in the transaction that books."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection

from metering.budgets.post_to_budgets import post_to_budgets
from metering.budgets.queries.posting import customers_to_post
from metering.budgets.store.locks import lock_accounts, share_budgets
from metering.credits.booking import Booking, BookingKind
from metering.credits.draw_grants import draw_grants
from metering.events.events import StreamStart
from metering.ledger.entries import Adjustment, AdjustmentReason, Charge, ManualAdjustment
from metering.streams.bill import Bill

_KINDS = {
    AdjustmentReason.LATE_FACTS: BookingKind.LATE_FACTS,
    AdjustmentReason.RERATE: BookingKind.RERATE,
}


def post_bookings(
    connection: Connection,
    *,
    customer_ids: Collection[str],
    bookings: Callable[[Collection[str]], Sequence[Booking]],
    now: datetime,
) -> None:
    """Post the bookings of this transaction, in the order of booking. Call it last: it takes locks of customers.

    `bookings` is called with those customers that have a budget, an open hold or a grant, and only if there are
    any: where there are none, this is a lock and one small query.
    """
    share_budgets(connection)
    concerned = customers_to_post(connection, customer_ids)
    posted = bookings(concerned) if concerned else ()
    if posted:
        lock_accounts(connection, concerned)
        draw_grants(connection, posted, now=now)
        post_to_budgets(connection, posted, now=now)


def booking_of_charge(charge: Charge, start: StreamStart | None) -> Booking:
    """A charge as it is posted."""
    bill = charge.bill
    return Booking(
        customer_id=charge.customer_id,
        entry_id=charge.charge_id,
        stream_id=charge.stream_id,
        kind=BookingKind.CHARGE,
        usd_cents=bill.usd_cents,
        booked_at=charge.booked_at,
        filed_at=bill.ended_at,
        period=charge.period,
        provider=bill.provider,
        model=bill.model,
        api_key_id=bill.api_key_id,
        tags=start.tags if start else {},
        failed_open=start.failed_open if start else False,
    )


def booking_of_adjustment(adjustment: Adjustment, before: Bill | None, start: StreamStart | None) -> Booking:
    """An adjustment as it is posted: with the new bill's dimensions, or those of the one that it takes back."""
    bill = adjustment.bill or before
    return Booking(
        customer_id=adjustment.customer_id,
        entry_id=adjustment.adjustment_id,
        stream_id=adjustment.stream_id,
        kind=_KINDS[adjustment.reason],
        usd_cents=adjustment.usd_cents,
        booked_at=adjustment.booked_at,
        filed_at=bill.ended_at if bill else adjustment.booked_at,
        period=adjustment.period,
        provider=bill.provider if bill else None,
        model=bill.model if bill else None,
        api_key_id=bill.api_key_id if bill else None,
        tags=start.tags if start else {},
    )


def booking_of_manual(adjustment: ManualAdjustment, bill: Bill | None, start: StreamStart | None) -> Booking:
    """A credit or correction as it is posted: with the dimensions of its stream, if it has one."""
    return Booking(
        customer_id=adjustment.customer_id,
        entry_id=adjustment.adjustment_id,
        stream_id=adjustment.stream_id,
        kind=BookingKind.MANUAL,
        usd_cents=adjustment.usd_cents,
        booked_at=adjustment.booked_at,
        filed_at=adjustment.filed_at,
        period=adjustment.period,
        provider=bill.provider if bill else None,
        model=bill.model if bill else None,
        api_key_id=bill.api_key_id if bill else None,
        tags=start.tags if start else {},
    )

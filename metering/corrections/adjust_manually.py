"""Adjust manually: book a credit or a correction, once per idempotency key."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, Engine

from metering.access.actors import Author
from metering.access.store.audit_log import State, log_action
from metering.access.store.idempotency import IdempotencyKey, earlier_result, remember_result
from metering.core.errors import MeteringError
from metering.core.money import cents_text
from metering.customers.store import UnknownCustomerError
from metering.db.engine import transaction
from metering.events.events import StreamStart
from metering.ledger.entries import ManualAdjustment, ManualKind
from metering.ledger.post_bookings import booking_of_manual, post_bookings
from metering.ledger.store.adjustments import book_manual_adjustment, get_manual_adjustment
from metering.ledger.store.charges import newest_bills
from metering.ledger.store.open_periods import lock_open_periods
from metering.streams.bill import Bill
from metering.streams.store.streams import read_streams


class InvalidAdjustmentError(MeteringError):
    """The amount, the reason or the stream is not valid for an adjustment."""


def adjust_manually(
    *,
    engine: Engine,
    idempotency_key: str,
    customer_id: str,
    stream_id: str | None,
    kind: ManualKind,
    usd_cents: Decimal,
    reason: str,
    booked_by: Author,
    now: datetime,
) -> ManualAdjustment:
    """Book `usd_cents` (exact) for a customer, or for one of its streams; return the booked adjustment.

    A repeated request with the same key books nothing and returns the adjustment of the first one. The amount is
    booked to the month of the stream's end, or of `now` without a stream; if that month is closed, to the first
    open month after it.

    Raises:
        UnknownCustomerError: the customer does not exist.
        InvalidAdjustmentError: the amount is zero, or a credit above zero; the reason is empty; or the stream has
            no charge.
        IdempotencyKeyReusedError: the key was used for a different request.
        RequestInFlightError: another request with this key is in progress.
    """
    _check(kind, usd_cents, reason)
    key = IdempotencyKey.of(idempotency_key, customer_id, stream_id, kind.value, cents_text(usd_cents), reason)
    with transaction(engine) as connection:
        earlier = earlier_result(connection, key)
        if earlier is not None:
            return get_manual_adjustment(connection, customer_id=customer_id, adjustment_id=earlier)
        periods = lock_open_periods(connection, [customer_id])
        if customer_id not in periods:
            raise UnknownCustomerError(f"customer_id: there is no customer {customer_id!r}")
        billed = _billed(connection, customer_id, stream_id) if stream_id is not None else None
        bill = billed.bill if billed else None
        adjustment = ManualAdjustment(
            customer_id=customer_id,
            adjustment_id=f"adj_{secrets.token_hex(12)}",
            stream_id=stream_id,
            kind=kind,
            usd_cents=usd_cents,
            reason=reason.strip(),
            booked_by=str(booked_by),
            booked_at=now,
            period=periods.period(customer_id=customer_id, at=now),
            filed_at=bill.ended_at if bill else now,
        )
        book_manual_adjustment(connection, adjustment, bill=bill)
        booking = booking_of_manual(adjustment, bill, billed.start if billed else None)
        post_bookings(connection, customer_ids=[customer_id], bookings=lambda _: [booking], now=now)
        remember_result(connection, key, result_id=adjustment.adjustment_id, now=now)
        _log(connection, adjustment, booked_by)
    return adjustment


def _log(connection: Connection, adjustment: ManualAdjustment, by: Author) -> None:
    log_action(
        connection,
        by=by,
        now=adjustment.booked_at,
        kind="adjustment",
        action="book",
        subject=adjustment.adjustment_id,
        after=_state(adjustment),
    )


def _state(adjustment: ManualAdjustment) -> State:
    return {
        "customer_id": adjustment.customer_id,
        "stream_id": adjustment.stream_id,
        "kind": adjustment.kind,
        "usd_cents": cents_text(adjustment.usd_cents),
        "reason": adjustment.reason,
        "period": adjustment.period,
    }


def _check(kind: ManualKind, usd_cents: Decimal, reason: str) -> None:
    if not usd_cents.is_finite() or not usd_cents:
        raise InvalidAdjustmentError(f"usd_cents: expected an amount other than 0, got {usd_cents}")
    if kind is ManualKind.CREDIT and usd_cents > 0:
        raise InvalidAdjustmentError(
            f"usd_cents: a credit must be below 0, got {usd_cents}; book a debit as a correction"
        )
    if not reason.strip():
        raise InvalidAdjustmentError("reason: required, the invoice shows it")


@dataclass(frozen=True, slots=True)
class _Billed:
    """A stream's newest bill, and its start."""

    bill: Bill
    start: StreamStart | None


def _billed(connection: Connection, customer_id: str, stream_id: str) -> _Billed:
    # The bill decides where totals file the amount. The lock keeps it from changing until the commit.
    found = read_streams(connection, [(customer_id, stream_id)], lock=True)
    bill = newest_bills(connection, [(customer_id, stream_id)]).get((customer_id, stream_id))
    if bill is None:
        raise InvalidAdjustmentError(
            f"stream_id: customer {customer_id!r} has no charge for {stream_id!r}; leave out stream_id to adjust"
            " the customer as a whole"
        )
    starts = [each.facts.start.event for each in found if each.facts.start is not None]
    return _Billed(bill, starts[0] if starts else None)

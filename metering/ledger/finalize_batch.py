"""Settle claimed streams and book their bills, in the transaction that claimed them.

Charges, streams and totals change in one transaction.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from metering.credits.booking import Booking
from metering.events.events import StreamStart
from metering.ledger.entries import Adjustment, AdjustmentReason, Charge, adjust, charge_id_of
from metering.ledger.post_bookings import booking_of_adjustment, booking_of_charge, post_bookings
from metering.ledger.store.charges import book_adjustments, book_charges, newest_bills
from metering.ledger.store.open_periods import OpenPeriods, lock_open_periods
from metering.ledger.store.rollups import BillChange, add_to_totals
from metering.prices.price_book import PriceBook
from metering.streams.bill import Bill
from metering.streams.resolutions import Resolution
from metering.streams.retries import Interruption, interruption_of, request_key_of
from metering.streams.settlement import (
    NEEDS_PERSON,
    Backlog,
    Settled,
    Settlement,
    State,
    Wait,
    WaitingTimes,
    is_over,
    left_to_restore,
    settle,
)
from metering.streams.store.archived import find_archived
from metering.streams.store.due import StreamMark, mark_streams
from metering.streams.store.resolutions import newest_resolutions
from metering.streams.store.retries import (
    Attempt,
    add_interruptions,
    find_interrupted,
    interrupted_requests,
    withdraw_interruptions,
)
from metering.streams.store.streams import StoredStream

log = logging.getLogger(__name__)

# A stream that cannot be booked before a person sets another time zone is tried again this often.
_TIME_ZONE_WAIT = timedelta(minutes=15)


@dataclass(slots=True)
class BatchWork:
    """What a batch writes."""

    now: datetime
    periods: OpenPeriods
    charges: list[Charge] = field(default_factory=list)
    adjustments: list[Adjustment] = field(default_factory=list)
    changes: list[BillChange] = field(default_factory=list)
    marks: list[StreamMark] = field(default_factory=list)


def finalize_batch(
    connection: Connection,
    claimed: Sequence[StoredStream],
    *,
    prices: PriceBook,
    waits: WaitingTimes,
    now: datetime,
) -> BatchWork:
    """Book, postpone or put in the backlog each of the streams that this transaction has locked."""
    booked = [_key(each) for each in claimed if each.revision is not None]
    bills = newest_bills(connection, booked)
    archived = find_archived(connection, [_key(each) for each in claimed if each.revision is None])
    by_key = {_key(each): each for each in claimed if _key(each) not in archived}
    request_keys = _request_keys(by_key)
    # What links retries waits for bookings by this lock: so it is taken before interruptions are read.
    work = BatchWork(now, lock_open_periods(connection, {each.facts.customer_id for each in claimed}))
    _record_interruptions(connection, by_key, request_keys, waits, now)
    retries = _retries(connection, by_key, request_keys, waits)
    settle_one = partial(_settle, bills=bills, retries=retries, prices=prices, waits=waits, now=now)
    settlements = {key: settle_one(key, each) for key, each in by_key.items()}
    stuck = [key for key, settlement in settlements.items() if isinstance(settlement, Backlog)]
    resolutions = newest_resolutions(connection, stuck)
    for key, each in by_key.items():
        if key in resolutions:
            settlements[key] = settle_one(key, each, resolution=resolutions[key])
        _plan(work, each, bills.get(key), settlements[key], request_keys.get(key))
    for each in claimed:
        if (archive_id := archived.get(_key(each))) is not None:
            _plan(work, each, None, left_to_restore(archive_id), None)
    if work.charges:
        book_charges(connection, work.charges)
    if work.adjustments:
        book_adjustments(connection, work.adjustments)
    add_to_totals(connection, work.changes)
    mark_streams(connection, work.marks)
    bookings = partial(_bookings, work=work, claimed=by_key, bills=bills)
    post_bookings(connection, customer_ids={key[0] for key in by_key}, bookings=bookings, now=now)
    return work


def _bookings(
    customer_ids: Collection[str],
    *,
    work: BatchWork,
    claimed: Mapping[tuple[str, str], StoredStream],
    bills: Mapping[tuple[str, str], Bill | None],
) -> list[Booking]:
    """What this batch books for these customers."""
    wanted = frozenset(customer_ids)
    charges = (
        booking_of_charge(each, _start_of(claimed[each.customer_id, each.stream_id]))
        for each in work.charges
        if each.customer_id in wanted
    )
    adjustments = (
        booking_of_adjustment(
            each,
            bills.get((each.customer_id, each.stream_id)),
            _start_of(claimed[each.customer_id, each.stream_id]),
        )
        for each in work.adjustments
        if each.customer_id in wanted
    )
    return [*charges, *adjustments]


def _start_of(stream: StoredStream) -> StreamStart | None:
    return stream.facts.start.event if stream.facts.start else None


def _settle(
    key: tuple[str, str],
    stream: StoredStream,
    *,
    bills: Mapping[tuple[str, str], Bill | None],
    retries: Mapping[tuple[str, str], str],
    prices: PriceBook,
    waits: WaitingTimes,
    now: datetime,
    resolution: Resolution | None = None,
) -> Settlement:
    return settle(
        facts=stream.facts,
        last_received_at=stream.last_received_at,
        now=now,
        waits=waits,
        prices=prices,
        booked=bills.get(key),
        retry_of=retries.get(key),
        resolution=resolution,
    )


def _request_keys(claimed: Mapping[tuple[str, str], StoredStream]) -> dict[tuple[str, str], int]:
    """The request keys of the streams whose gateway sent a request hash."""
    request_keys: dict[tuple[str, str], int] = {}
    for key, each in claimed.items():
        start = each.facts.start
        if start is not None and (request_key := request_key_of(start.event)) is not None:
            request_keys[key] = request_key
    return request_keys


def _retries(
    connection: Connection,
    claimed: Mapping[tuple[str, str], StoredStream],
    request_keys: Mapping[tuple[str, str], int],
    waits: WaitingTimes,
) -> dict[tuple[str, str], str]:
    """The id of the interrupted stream that each of these repeats; streams that are not retries are left out."""
    interrupted = interrupted_requests(connection, request_keys.values())
    attempts = [
        Attempt(customer_id=key[0], stream_id=key[1], request_key=request_key, started_at=start.at)
        for key, request_key in request_keys.items()
        if request_key in interrupted and (start := claimed[key].facts.start)
    ]
    return find_interrupted(connection, attempts, window=waits.retry_window)


def _record_interruptions(
    connection: Connection,
    claimed: Mapping[tuple[str, str], StoredStream],
    request_keys: Mapping[tuple[str, str], int],
    waits: WaitingTimes,
    now: datetime,
) -> None:
    """Record which streams ended early, and withdraw that for streams that turn out to have completed."""
    interrupted: list[Interruption] = []
    # A start that wins over another one may lack the request that was recorded with that.
    taken_back = [
        key
        for key, stream in claimed.items()
        if key not in request_keys and stream.facts.start is not None and stream.facts.start.conflicting
    ]
    for key, request_key in request_keys.items():
        stream = claimed[key]
        interruption = interruption_of(stream.facts, request_key=request_key)
        if interruption is None:
            # It may have been recorded when the stream was settled before: booked, or put into the backlog.
            if stream.revision is not None or stream.state in NEEDS_PERSON:
                taken_back.append(key)
        elif is_over(facts=stream.facts, last_received_at=stream.last_received_at, now=now, waits=waits):
            interrupted.append(interruption)
        elif stream.state in NEEDS_PERSON:
            # It waits again, and if it completes then, its state no longer shows the backlog.
            taken_back.append(key)
    add_interruptions(connection, interrupted)
    withdraw_interruptions(connection, taken_back)


def _plan(
    work: BatchWork,
    stream: StoredStream,
    before: Bill | None,
    settlement: Settlement,
    request_key: int | None,
) -> None:
    customer_id, stream_id = stream.facts.customer_id, stream.facts.stream_id
    state_reason: str | None = None
    due_at: datetime | None = None
    if isinstance(settlement, Wait):
        period = None
    else:
        ended_at = settlement.bill.ended_at if isinstance(settlement, Settled) else work.now
        period = work.periods.find_period(customer_id=customer_id, at=ended_at)
    match settlement:
        case Settled(bill) if period is not None:
            state, revision = State.FINALIZED, _book(work, stream, before, bill, period, request_key)
        case Backlog(state, state_reason) if period is not None:
            revision = _book(work, stream, before, None, period, request_key)
        case _:
            wait = settlement if isinstance(settlement, Wait) else _wait_for_time_zone(work, stream)
            state, due_at, revision = wait.state, wait.until, stream.revision
            if revision is not None:
                # A booked stream stays finalized while it waits for more facts.
                state = State.FINALIZED if before is not None else stream.state
    work.marks.append(
        StreamMark(
            customer_id=customer_id,
            stream_id=stream_id,
            state=state,
            state_reason=state_reason,
            due_at=due_at,
            revision=revision,
        )
    )


def _wait_for_time_zone(work: BatchWork, stream: StoredStream) -> Wait:
    """The wait of a stream whose month depends on its customer's time zone, while that is unusable."""
    details = {"customer_id": stream.facts.customer_id, "stream_id": stream.facts.stream_id}
    log.warning("stream not booked: its customer's time zone is unusable, see `metering doctor`", extra=details)
    return Wait(State.OPEN if stream.facts.end is None else State.ENDED, work.now + _TIME_ZONE_WAIT)


def _book(
    work: BatchWork,
    stream: StoredStream,
    before: Bill | None,
    after: Bill | None,
    period: str,
    request_key: int | None,
) -> int | None:
    """Plan the charge or adjustment from one bill to the next; return the stream's new revision."""
    if before == after:
        return stream.revision
    customer_id, stream_id = stream.facts.customer_id, stream.facts.stream_id
    work.changes.append(BillChange(customer_id, before, after))
    if stream.revision is None and after is not None:
        work.charges.append(
            Charge(
                charge_id=charge_id_of(customer_id=customer_id, stream_id=stream_id),
                customer_id=customer_id,
                stream_id=stream_id,
                booked_at=work.now,
                period=period,
                bill=after,
                request_key=request_key,
            )
        )
        return 0
    revision = (stream.revision or 0) + 1
    work.adjustments.append(
        adjust(
            customer_id=customer_id,
            stream_id=stream_id,
            revision=revision,
            before=before,
            after=after,
            reason=AdjustmentReason.LATE_FACTS,
            booked_at=work.now,
            period=period,
        )
    )
    return revision


def _key(stream: StoredStream) -> tuple[str, str]:
    return (stream.facts.customer_id, stream.facts.stream_id)

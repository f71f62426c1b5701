"""Rerate: price a month's streams with the current price book; preview the changes, or book them as adjustments.

A new price never changes booked bills by itself. Rerating is the explicit way to apply it to them.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import islice

from sqlalchemy import Connection, Engine

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.core.money import EXACT, ZERO, cents_text, sum_cents
from metering.credits.booking import Booking
from metering.db.engine import transaction
from metering.ledger.entries import Adjustment, AdjustmentReason, adjust
from metering.ledger.post_bookings import booking_of_adjustment, post_bookings
from metering.ledger.queries.charges import BillFilter, check_none_archived, iterate_charged_streams
from metering.ledger.store.charges import book_adjustments, newest_bills
from metering.ledger.store.open_periods import lock_open_periods
from metering.ledger.store.rollups import BillChange, add_to_totals
from metering.prices.price_book import PriceBook
from metering.prices.store.book import PriceBooks
from metering.streams.bill import Bill
from metering.streams.settlement import State, rerate_bill
from metering.streams.store.due import StreamMark, mark_streams
from metering.streams.store.streams import StoredStream, read_streams

log = logging.getLogger(__name__)

# Streams per transaction: as many are locked, and booked, at a time.
_BATCH = 500

# Called with the number of streams looked at so far.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RerateGroup:
    """The streams of a model whose bill changes, before and after in exact cents.

    `unpriced` counts streams without a rate in the current price book; they keep their bill and are in no other
    figure.
    """

    provider: str
    model: str
    stream_count: int = 0
    usd_cents: Decimal = ZERO
    new_usd_cents: Decimal = ZERO
    unpriced: int = 0

    @property
    def difference_usd_cents(self) -> Decimal:
        """The sum of the adjustments, in exact cents."""
        return EXACT.subtract(self.new_usd_cents, self.usd_cents)


@dataclass(slots=True)
class _Groups:
    by_model: dict[tuple[str, str], RerateGroup]

    def add(self, before: Bill, after: Bill | None) -> None:
        key = (before.provider, before.model)
        group = self.by_model.get(key) or RerateGroup(provider=key[0], model=key[1])
        if after is None:
            self.by_model[key] = replace(group, unpriced=group.unpriced + 1)
            return
        self.by_model[key] = replace(
            group,
            stream_count=group.stream_count + 1,
            usd_cents=EXACT.add(group.usd_cents, before.usd_cents),
            new_usd_cents=EXACT.add(group.new_usd_cents, after.usd_cents),
        )

    def sorted(self) -> Sequence[RerateGroup]:
        return [self.by_model[key] for key in sorted(self.by_model)]


def rerate(
    *,
    engine: Engine,
    price_books: PriceBooks,
    where: BillFilter,
    now: datetime,
    book: bool,
    by: Author = "metering",
    progress: Progress = lambda _: None,
) -> Sequence[RerateGroup]:
    """Return the changes by provider and model; with `book`, book the differences as adjustments.

    Each batch of streams is booked in a transaction of its own, so booking can be stopped and run again: a stream
    that was rerated has no difference left. A stream at the edge of a month is left out while its customer's time
    zone is unusable.

    Raises:
        StreamArchivedError: facts of the month are in an archive; nothing was booked.
    """
    groups = _Groups({})
    seen = 0
    with transaction(engine) as reading:
        check_none_archived(reading, where)
        keys = iterate_charged_streams(reading, where=where)
        while batch := list(islice(keys, _BATCH)):
            with transaction(engine) as connection:
                changes = list(_changes(connection, batch, price_books.current(connection), lock=book))
                if book:
                    changes = _book(connection, changes, now)
                    _log(connection, where, changes, by, now)
            for change in changes:
                groups.add(change.before, change.after)
            seen += len(batch)
            progress(seen)
    return groups.sorted()


@dataclass(frozen=True, slots=True)
class _Change:
    stream: StoredStream
    before: Bill
    after: Bill | None


def _changes(
    connection: Connection, keys: Sequence[tuple[str, str]], prices: PriceBook, *, lock: bool
) -> Iterator[_Change]:
    claimed = read_streams(connection, keys, lock=lock)
    bills = newest_bills(connection, keys)
    for each in claimed:
        facts = each.facts
        before = bills.get((facts.customer_id, facts.stream_id))
        if before is None or each.state is not State.FINALIZED:
            continue
        after = rerate_bill(facts=facts, booked=before, prices=prices)
        if after != before:
            yield _Change(each, before, after)


def _book(connection: Connection, changes: Sequence[_Change], now: datetime) -> list[_Change]:
    """Book these changes; return them without those whose month is unknown."""
    kept: list[_Change] = []
    adjustments: list[Adjustment] = []
    bill_changes: list[BillChange] = []
    periods = lock_open_periods(connection, {change.stream.facts.customer_id for change in changes})
    for change in changes:
        if change.after is None:
            kept.append(change)
            continue
        stream = change.stream
        key = (stream.facts.customer_id, stream.facts.stream_id)
        period = periods.find_period(customer_id=key[0], at=change.after.ended_at)
        if period is None:
            details = {"customer_id": key[0], "stream_id": key[1]}
            log.warning("stream not rerated: its customer's time zone is unusable", extra=details)
            continue
        kept.append(change)
        adjustments.append(
            adjust(
                customer_id=key[0],
                stream_id=key[1],
                revision=(stream.revision or 0) + 1,
                before=change.before,
                after=change.after,
                reason=AdjustmentReason.RERATE,
                booked_at=now,
                period=period,
            )
        )
        bill_changes.append(BillChange(key[0], change.before, change.after))
    if adjustments:
        book_adjustments(connection, adjustments)
        add_to_totals(connection, bill_changes)
        mark_streams(connection, [_mark(adjustment) for adjustment in adjustments])
        _post(connection, adjustments, kept, now)
    return kept


def _post(
    connection: Connection, adjustments: Sequence[Adjustment], changes: Sequence[_Change], now: datetime
) -> None:
    by_key = {(each.stream.facts.customer_id, each.stream.facts.stream_id): each for each in changes}

    def bookings(customer_ids: Collection[str]) -> list[Booking]:
        made: list[Booking] = []
        for each in adjustments:
            if each.customer_id in customer_ids:
                change = by_key[each.customer_id, each.stream_id]
                start = change.stream.facts.start
                made.append(booking_of_adjustment(each, change.before, start.event if start else None))
        return made

    post_bookings(connection, customer_ids={each.customer_id for each in adjustments}, bookings=bookings, now=now)


def _log(connection: Connection, where: BillFilter, changes: Sequence[_Change], by: Author, now: datetime) -> None:
    """One row for each batch that booked something, in its transaction."""
    booked = [(each.before, each.after) for each in changes if each.after is not None]
    if not booked:
        return
    difference = sum_cents(EXACT.subtract(after.usd_cents, before.usd_cents) for before, after in booked)
    after = {
        "provider": where.provider,
        "model": where.model,
        "customer_id": where.customer_id,
        "adjustments": len(booked),
        "usd_cents": cents_text(difference),
    }
    log_action(connection, by=by, now=now, kind="rerating", action="book", subject=str(where.period), after=after)


def _mark(adjustment: Adjustment) -> StreamMark:
    return StreamMark(
        customer_id=adjustment.customer_id,
        stream_id=adjustment.stream_id,
        state=State.FINALIZED,
        state_reason=None,
        due_at=None,
        revision=adjustment.revision,
    )

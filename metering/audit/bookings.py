"""A stream's bookings, redone with the prices that were known when each was booked.

The newest bill is derived from the stream's facts, every earlier one from the usage that it states itself.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from msgspec import structs
from sqlalchemy import Connection

from metering.audit.difference import Claim, Difference, field_claims, stream_key, unequal
from metering.audit.queries.stored import AuditedStream
from metering.core.money import EXACT
from metering.core.period import BillingPeriod
from metering.core.time_zones import FURTHEST_ZONES, shown_zone
from metering.events.events import Outcome, StreamEnd, StreamStart
from metering.ledger.entries import AdjustmentReason, adjustment_id_of, charge_id_of, difference
from metering.prices.price_book import PriceBook
from metering.prices.rate_book import RateBook
from metering.prices.rates import id_by_content
from metering.prices.store.book import load_price_book, price_book_changes
from metering.prices.store.cards import load_rate_cards
from metering.streams.bill import Bill, Flag, PriceSource
from metering.streams.resolutions import Resolution, ResolutionAction
from metering.streams.retries import request_key_of
from metering.streams.settlement import Settled, Settlement, WaitingTimes, rerate_bill, settle
from metering.streams.stream import NOTHING_DELIVERED, StreamFacts, facts_of, join

# A booked stream was over. The waiting times are settings that may have changed since, so none is applied here.
_OVER = WaitingTimes(abandon_after=timedelta(), start_grace=timedelta(), retry_window=timedelta())

# A booking takes its time before it reads the prices, and its clock may differ from the one that dated a price.
_CLOCK_MARGIN = timedelta(minutes=1)
_BOOKS_KEPT = 16


class PriceHistory:
    """Every state that the price book has had; a price that was added later cannot have priced a booking."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changes = price_book_changes(connection)
        self._cards = load_rate_cards(connection)
        self._after = lru_cache(maxsize=_BOOKS_KEPT)(self._load)

    def check_cards(self) -> Iterator[Difference]:
        """Every rate card has the id of its content, and no rate is negative."""
        for each in self._cards:
            key, derived = each.card.rate_card_id, id_by_content(each.card)
            if derived != key:
                yield Difference("rates", key, f"its content has the id {derived}: a rate was changed")
            if any(rate.usd < 0 for rate in each.card.rates):
                yield Difference("rates", key, "a rate is negative")

    def since(self, at: datetime) -> Iterator[PriceBook]:
        """The book after its last change, then each that was in force at this time or since."""
        for number in range(len(self._changes), bisect_right(self._changes, at) - 1, -1):
            yield self._after(number)

    def around(self, at: datetime) -> Iterator[PriceBook]:
        """The book at this time, then the other books that a booking of this time may have read."""
        at_it = bisect_right(self._changes, at)
        yield self._after(at_it)
        earliest = bisect_right(self._changes, at - _CLOCK_MARGIN)
        latest = bisect_right(self._changes, at + _CLOCK_MARGIN)
        for number in range(earliest, latest + 1):
            if number != at_it:
                yield self._after(number)

    def _load(self, number: int) -> PriceBook:
        if number == 0:
            return PriceBook(rates=RateBook(()))
        return load_price_book(self._connection, cards=self._cards, known_at=self._changes[number - 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Booking:
    """A charge or an adjustment with the bill before it; `reason` is None for the charge."""

    table: str
    key: str
    booked_at: datetime
    reason: AdjustmentReason | None
    before: Bill | None
    bill: Bill | None


def check_amounts(stored: AuditedStream) -> Iterator[Difference]:
    """Differences in the ids, amounts, months and revisions of a stream's bookings."""
    charge = stored.charge
    if charge is None:
        return
    customer_id, stream_id = stored.facts.customer_id, stored.facts.stream_id
    key = stream_key(customer_id, stream_id)
    charge_id = charge_id_of(customer_id=customer_id, stream_id=stream_id)
    claims: list[Claim] = [
        ("charge_id", charge.charge_id, charge_id),
        ("usd_cents", stored.charge_usd_cents, charge.bill.usd_cents),
        ("period", charge.period, _period(stored, charge.period, charge.bill.ended_at)),
    ]
    if not stored.adjustments and stored.facts.start is not None:
        claims.append(("request_key", charge.request_key, request_key_of(stored.facts.start.event)))
    yield from unequal("charges", key, claims)
    before: Bill | None = charge.bill
    for number, each in enumerate(stored.adjustments, start=1):
        adjustment_id = adjustment_id_of(customer_id=customer_id, stream_id=stream_id, revision=number)
        ended_at = each.bill.ended_at if each.bill else each.booked_at
        claims = [
            ("revision", each.revision, number),
            ("adjustment_id", each.adjustment_id, adjustment_id),
            ("charge_id", each.charge_id, charge_id),
            ("usd_cents", each.usd_cents, difference(before=before, after=each.bill)),
            ("period", each.period, _period(stored, each.period, ended_at)),
        ]
        yield from unequal("adjustments", f"{key} revision {each.revision}", claims)
        before = each.bill


def _period(stored: AuditedStream, period: str, at: datetime) -> str:
    """The month that a booking belongs to; the stored month where it is right in some time zone.

    A booking whose month was closed belongs to the month that was the first open one then. The audit cannot tell
    which month that was and accepts any up to the first that is open now; the seals check the closed months.
    """
    # A customer's time zone can change, and earlier bookings keep their month.
    zones = (shown_zone(stored.time_zone), *FURTHEST_ZONES)
    months = [BillingPeriod.containing(at=at, time_zone=zone) for zone in zones]
    if period in map(str, months):
        return period
    if stored.closed_through:
        closed_through = BillingPeriod.parse(stored.closed_through)
        if months[0] <= closed_through and str(months[0]) < period <= str(closed_through.next):
            return period
    return str(months[0])


def check_bills(stored: AuditedStream, history: PriceHistory, *, by_facts: bool) -> Iterator[Difference]:
    """Differences between each bill and the bill derived with the prices known when it was booked.

    With `by_facts`, which is right when the finalizer has no work left for the stream, the newest bill is derived
    from the stream's facts. All other bills are derived from the usage that they state.
    """
    bookings = _bookings(stored)
    for number, booking in enumerate(bookings, start=1):
        if booking.bill is None:
            continue
        is_newest = number == len(bookings)
        derived: list[Bill | None] = []
        for prices in history.around(booking.booked_at):
            if by_facts and is_newest:
                derived.append(_redo(stored.facts, booking, prices, stored.resolution))
            else:
                derived.append(_bill_of_bill(stored.facts, booking.bill, booking, prices))
            if derived[-1] == booking.bill:
                break
        else:
            yield from _bill_differences(booking, booking.bill, derived[0])


def _bill_differences(booking: _Booking, bill: Bill, derived: Bill | None) -> list[Difference]:
    if derived is None:
        return [Difference(booking.table, booking.key, "with the facts and prices of its time there is no bill")]
    return unequal(booking.table, booking.key, field_claims(bill, derived))


def _bookings(stored: AuditedStream) -> list[_Booking]:
    if stored.charge is None:
        return []
    key = stream_key(stored.facts.customer_id, stored.facts.stream_id)
    charge = stored.charge
    bookings = [
        _Booking(table="charges", key=key, booked_at=charge.booked_at, reason=None, before=None, bill=charge.bill)
    ]
    for each in stored.adjustments:
        bookings.append(
            _Booking(
                table="adjustments",
                key=f"{key} revision {each.revision}",
                booked_at=each.booked_at,
                reason=each.reason,
                before=bookings[-1].bill,
                bill=each.bill,
            )
        )
    return bookings


def _bill_of_bill(facts: StreamFacts, bill: Bill, booking: _Booking, prices: PriceBook) -> Bill | None:
    """The bill derived from the usage that a bill states; an admin's resolution is kept."""
    if bill.resolution is ResolutionAction.WRITE_OFF:
        return structs.replace(bill, lines=(), rate_card_id=None, price_source=PriceSource.RATE_CARD)
    derived = _redo(_facts_of_bill(facts, bill), booking, prices, None)
    if derived is None:
        return None
    # Its own usage is the reading of counters that may have contradicted each other, so that it no longer tells.
    told = {flag for flag in bill.flags if flag is not Flag.PARENT_RATE}
    kept = tuple(sorted({*told, *(flag for flag in derived.flags if flag is Flag.PARENT_RATE)}))
    return structs.replace(derived, resolution=bill.resolution, flags=kept)


def _redo(facts: StreamFacts, booking: _Booking, prices: PriceBook, resolution: Resolution | None) -> Bill | None:
    if booking.reason is AdjustmentReason.RERATE and booking.before is not None:
        return rerate_bill(facts=facts, booked=booking.before, prices=prices)
    settlement = settle_over(
        facts,
        prices=prices,
        booked=booking.before,
        retry_of=booking.bill.retry_of if booking.bill else None,
        resolution=resolution,
    )
    return settlement.bill if isinstance(settlement, Settled) else None


def settle_over(
    facts: StreamFacts,
    *,
    prices: PriceBook,
    booked: Bill | None,
    retry_of: str | None,
    resolution: Resolution | None,
) -> Settlement:
    """Settle the facts of a stream that is over."""
    return settle(
        facts=facts,
        last_received_at=facts.last_event_at,
        now=facts.last_event_at,
        waits=_OVER,
        prices=prices,
        booked=booked,
        retry_of=retry_of,
        resolution=resolution,
    )


def _facts_of_bill(facts: StreamFacts, bill: Bill) -> StreamFacts:
    """Facts that have the bill's usage, outcome and times."""
    start = StreamStart(
        customer_id=facts.customer_id,
        stream_id=facts.stream_id,
        time=bill.started_at,
        provider=bill.provider,
        model=bill.model,
        api_key_id=bill.api_key_id,
        service_tier=bill.service_tier,
    )
    completed = bill.outcome is Outcome.COMPLETED
    nothing = bill.usage == NOTHING_DELIVERED and not bill.lines and not completed
    end = StreamEnd(
        customer_id=facts.customer_id,
        stream_id=facts.stream_id,
        time=bill.ended_at,
        outcome=bill.outcome,
        usage=None if nothing else bill.usage,
        usage_source=bill.usage_source,
        response_provider=bill.response_provider,
        response_model=bill.response_model,
        upstream_cost_usd=None if bill.upstream_usd_cents is None else EXACT.scaleb(bill.upstream_usd_cents, -2),
        inlet=bill.inlet,
    )
    return join(facts_of(start), facts_of(end))

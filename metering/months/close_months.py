"""Close months: mark customers, wait for the bookings that did not see the mark, and make the invoices.

Each step finds its work in the database, so any number of workers can take part, and each can stop at any point.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import Connection, Engine

from metering.core.errors import MeteringError
from metering.core.money import ZERO
from metering.core.period import BillingPeriod
from metering.core.time_zones import shown_zone
from metering.customers.queries.time_zones import time_zones_in_use, zone_problems
from metering.db.engine import transaction, will_pass
from metering.ledger.store.open_periods import UnusableTimeZoneError, wait_for_bookings
from metering.months.invoice import ClosedPeriod, Invoice, Previous, make_invoice
from metering.months.keep_rates import keep_rates_in_time
from metering.months.queries.entries import MonthKey, OpenMonth, Seal, line_sums, seals
from metering.months.store.closing import (
    MarkedCustomer,
    OpenCustomer,
    add_closed_periods,
    add_invoices,
    claim_open_customers,
    lock_marked,
    mark_closed,
    marked_customers,
)
from metering.months.store.runs import InvoiceRun, refuse_customers
from metering.streams.queries import unsettled_streams

log = logging.getLogger(__name__)

_NO_ENTRIES = Seal(entry_count=0, usd_cents=ZERO, digest=sha256(b"").digest())


class UnequalSumsError(MeteringError):
    """The lines of an invoice do not sum to its entries. This is a bug; nothing was invoiced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseTerms:
    """How months are closed.

    A month stays open for `grace` after its end. An invoice below `minimum_cents` is deferred. `hand_over` is
    called with the new invoices and the time, in the transaction that stores them.
    """

    grace: timedelta
    minimum_cents: int
    hand_over: Callable[[Connection, Sequence[Invoice], datetime], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseStep:
    """How many customers one step refused and invoiced; `done` when it found nothing to do."""

    refused: int
    invoiced: int
    done: bool


def close_step(*, engine: Engine, run: InvoiceRun, terms: CloseTerms, now: datetime, limit: int) -> CloseStep:
    """Mark up to `limit` customers as closed, and invoice up to `limit` marked customers.

    A customer is refused while a stream of its month may still settle (unless the run is forced), while its time
    zone is unusable, or when its invoice cannot be made.
    """
    marked, refused = _mark(engine, run, terms, now, limit)
    with transaction(engine) as connection:
        waiting = marked_customers(
            connection, period=run.period, run_id=run.run_id, only=run.customer_id, limit=limit
        )
    if waiting:
        # Only customers that were marked before this wait may be invoiced after it.
        wait_for_bookings(engine)
    invoiced, failed = _invoice_isolating_failures(engine, run, terms, now, waiting)
    return CloseStep(refused=refused + failed, invoiced=invoiced, done=not (marked or refused or waiting))


def closable_zones(*, period: BillingPeriod, zones: Sequence[str], until: datetime) -> list[str]:
    """The time zones in which the month had ended at `until`; in UTC, for those that are unusable."""
    return [zone for zone in zones if period.next.start(time_zone=shown_zone(zone)) <= until]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldUp:
    """Customers whose month cannot be closed, and why: `unsettled` streams, or an unusable `time_zone`."""

    unsettled: Mapping[str, str]
    time_zone: Mapping[str, str]

    def __contains__(self, customer_id: str) -> bool:
        return customer_id in self.unsettled or customer_id in self.time_zone

    def __len__(self) -> int:
        return len(self.unsettled) + len(self.time_zone)


def held_up(
    connection: Connection, customers: Sequence[OpenCustomer], *, period: BillingPeriod, forced: bool
) -> HeldUp:
    """Which of these customers' months cannot be closed. Unsettled streams do not hold up a forced close.

    A customer is never billed by another time zone than its own, so an unusable one always holds up its month.
    """
    zones = sorted({each.time_zone for each in customers})
    problems = zone_problems(connection, zones)
    ends = {
        each.customer_id: period.next.start(time_zone=shown_zone(each.time_zone))
        for each in customers
        if each.time_zone not in problems
    }
    unsettled = {} if forced else unsettled_streams(connection, ends)
    return HeldUp(
        unsettled={customer_id: str(streams) for customer_id, streams in unsettled.items()},
        time_zone={
            each.customer_id: f"{problems[each.time_zone]}; set another with `metering customers set`"
            for each in customers
            if each.time_zone in problems
        },
    )


def _mark(engine: Engine, run: InvoiceRun, terms: CloseTerms, now: datetime, limit: int) -> tuple[int, int]:
    """Return how many customers were marked, and how many were refused because something holds up their month."""
    at = run.as_of or now
    until = at if run.force_reason else at - terms.grace
    with transaction(engine) as connection:
        zones = closable_zones(period=run.period, zones=time_zones_in_use(connection), until=until)
        claimed = claim_open_customers(
            connection, period=run.period, time_zones=zones, run_id=run.run_id, only=run.customer_id, limit=limit
        )
        held = held_up(connection, claimed, period=run.period, forced=run.force_reason is not None)
        for result, details in (("unsettled", held.unsettled), ("time_zone", held.time_zone)):
            refuse_customers(connection, run_id=run.run_id, result=result, details=details, now=now)
        ready = [each.customer_id for each in claimed if each.customer_id not in held]
        if ready:
            mark_closed(connection, ready, period=run.period)
    return len(ready), len(held)


def _invoice_isolating_failures(
    engine: Engine, run: InvoiceRun, terms: CloseTerms, now: datetime, waiting: Sequence[str]
) -> tuple[int, int]:
    """Return how many were invoiced and how many failed.

    A failed batch is halved and tried again, so a failing customer does not hold up the others.
    """
    try:
        return _invoice(engine, run, terms, now, waiting), 0
    except Exception as error:
        # Whatever it is, it must not hold up the customers that it is not about.
        if will_pass(error):
            raise
        if len(waiting) > 1:
            halves = (waiting[: len(waiting) // 2], waiting[len(waiting) // 2 :])
            counts = [_invoice_isolating_failures(engine, run, terms, now, half) for half in halves]
            return sum(invoiced for invoiced, _ in counts), sum(failed for _, failed in counts)
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        result = "time_zone" if isinstance(error, UnusableTimeZoneError) else "failed"
        log.error("invoice not created", extra={"customer_id": waiting[0], "error": detail}, exc_info=True)
        with transaction(engine) as connection:
            refuse_customers(connection, run_id=run.run_id, result=result, details={waiting[0]: detail}, now=now)
        return 0, 1


def _invoice(
    engine: Engine, run: InvoiceRun, terms: CloseTerms, now: datetime, customer_ids: Sequence[str]
) -> int:
    if not customer_ids:
        return 0
    with transaction(engine) as connection:
        marked = lock_marked(connection, customer_ids, period=run.period)
        closed, invoices = derive(connection, run, terms, run.as_of or now, marked)
        add_closed_periods(connection, closed)
        add_invoices(connection, invoices, now=now)
        keep_rates_in_time(connection, invoices, [month for each in marked for month in _months(each)])
        terms.hand_over(connection, invoices, now)
    return len(marked)


def derive(
    connection: Connection,
    run: InvoiceRun,
    terms: CloseTerms,
    closed_at: datetime,
    marked: Sequence[MarkedCustomer],
) -> tuple[list[ClosedPeriod], list[Invoice]]:
    """Make the closed months and the invoices of these customers from their entries; nothing is written.

    A month without entries gets no invoice.

    Raises:
        UnequalSumsError: the lines of an invoice do not sum to its entries.
    """
    months = {each.customer_id: _months(each) for each in marked}
    everything = [month for found in months.values() for month in found]
    sums, sealed = line_sums(connection, everything), seals(connection, everything)
    all_closed: list[ClosedPeriod] = []
    invoices: list[Invoice] = []
    for each in marked:
        previous = each.previous
        for month in months[each.customer_id]:
            key = (month.customer_id, month.period)
            closed = _closed(month, run, closed_at, sealed.get(key, _NO_ENTRIES))
            all_closed.append(closed)
            if not closed.entry_count:
                continue
            invoice = make_invoice(
                closed=closed, sums=sums.get(key, ()), previous=previous, minimum_cents=terms.minimum_cents
            )
            _check(invoice, sealed, key)
            invoices.append(invoice)
            previous = Previous(
                invoice_id=invoice.invoice_id,
                remainder_usd_cents=invoice.remainder_usd_cents,
                period=invoice.period,
            )
    return all_closed, invoices


def _months(customer: MarkedCustomer) -> list[OpenMonth]:
    """The customer's months with their bounds.

    A month begins where the one before ended, which may have been in a different time zone.
    """
    months: list[OpenMonth] = []
    until = customer.closed_until
    for period in customer.months:
        starts_at, ends_at = period.bounds(time_zone=customer.time_zone, closed_until=until)
        months.append(
            OpenMonth(
                customer_id=customer.customer_id,
                period=str(period),
                time_zone=str(customer.time_zone),
                starts_at=starts_at,
                ends_at=ends_at,
            )
        )
        until = ends_at
    return months


def _closed(month: OpenMonth, run: InvoiceRun, closed_at: datetime, seal: Seal) -> ClosedPeriod:
    return ClosedPeriod(
        customer_id=month.customer_id,
        period=BillingPeriod.parse(month.period),
        time_zone=month.time_zone,
        starts_at=month.starts_at,
        ends_at=month.ends_at,
        closed_at=closed_at,
        closed_by=run.requested_by,
        force_reason=run.force_reason,
        entry_count=seal.entry_count,
        seal=seal.digest,
    )


def _check(invoice: Invoice, sealed: Mapping[MonthKey, Seal], key: MonthKey) -> None:
    if invoice.exact_usd_cents != sealed[key].usd_cents:
        raise UnequalSumsError(
            f"{invoice.period} of customer {invoice.customer_id!r}: the lines sum to {invoice.exact_usd_cents}"
            f" cents, the entries to {sealed[key].usd_cents} cents"
        )

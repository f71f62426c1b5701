"""Preview a month: the invoices that closing it now would make, without closing it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from metering.customers.queries.time_zones import time_zones_in_use
from metering.db.engine import rows_by_key
from metering.db.snapshots import read_transaction
from metering.months.close_months import CloseTerms, closable_zones, derive, held_up
from metering.months.invoice import Invoice
from metering.months.run_invoices import CLOSE_BATCH, Progress, RunRequest
from metering.months.store.closing import OpenCustomer, list_open_customers, read_marked
from metering.months.store.runs import InvoiceRun


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthPreview:
    """The invoices that closing would make, and the customers whose month would stay open, with the reason."""

    invoices: Sequence[Invoice]
    held_up: Mapping[str, str]


def preview_month(
    *,
    engine: Engine,
    request: RunRequest,
    terms: CloseTerms,
    now: datetime,
    progress: Progress = lambda *_: None,
) -> MonthPreview:
    """Return what closing the month now would make. It reads one database snapshot and writes nothing."""
    at = request.as_of or now
    run = _run(request, now)
    invoices: list[Invoice] = []
    staying_open: dict[str, str] = {}
    with read_transaction(engine) as connection:
        customers = open_customers(connection, request=request, terms=terms, now=now)
        for start in range(0, len(customers), CLOSE_BATCH):
            batch = customers[start : start + CLOSE_BATCH]
            previewed = _preview(connection, run, batch, terms=terms, at=at)
            invoices += previewed.invoices
            staying_open |= previewed.held_up
            progress("previewing", start + len(batch), len(customers))
    return MonthPreview(invoices=invoices, held_up=staying_open)


def open_customers(
    connection: Connection, *, request: RunRequest, terms: CloseTerms, now: datetime
) -> Sequence[OpenCustomer]:
    """The customers whose month is over and open, by id."""
    at = request.as_of or now
    until = at if request.force_reason else at - terms.grace
    zones = closable_zones(period=request.period, zones=time_zones_in_use(connection), until=until)
    return list_open_customers(connection, period=request.period, time_zones=zones, only=request.customer_id)


def preview_customers(
    connection: Connection,
    customers: Sequence[OpenCustomer],
    *,
    request: RunRequest,
    terms: CloseTerms,
    now: datetime,
    drafts_of: Collection[str] | None = None,
) -> MonthPreview:
    """What closing the month of these customers now would make: the invoices of all, or of `drafts_of`.

    Those are few, with few entries, and looked up by their keys.
    """
    run, at = _run(request, now), request.as_of or now
    if drafts_of is None:
        return _preview(connection, run, customers, terms=terms, at=at)
    with rows_by_key(connection):
        return _preview(connection, run, customers, terms=terms, at=at, drafts_of=drafts_of)


def _run(request: RunRequest, now: datetime) -> InvoiceRun:
    return InvoiceRun(
        run_id="",
        period=request.period,
        customer_id=request.customer_id,
        force_reason=request.force_reason,
        requested_by=str(request.requested_by),
        as_of=request.as_of,
        started_at=now,
    )


def _preview(
    connection: Connection,
    run: InvoiceRun,
    customers: Sequence[OpenCustomer],
    *,
    terms: CloseTerms,
    at: datetime,
    drafts_of: Collection[str] | None = None,
) -> MonthPreview:
    held = held_up(connection, customers, period=run.period, forced=run.force_reason is not None)
    wanted = {each.customer_id for each in customers} if drafts_of is None else drafts_of
    ready = [each.customer_id for each in customers if each.customer_id in wanted and each.customer_id not in held]
    marked = read_marked(connection, ready, period=run.period)
    invoices = derive(connection, run, terms, at, marked)[1]
    return MonthPreview(invoices=invoices, held_up={**held.unsettled, **held.time_zone})

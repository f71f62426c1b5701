"""Invoice runs: start closing a month, for all customers or one, and close it together with any workers."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.core.errors import MeteringError
from metering.core.period import BillingPeriod
from metering.core.time_zones import shown_zone
from metering.customers.queries.customers import get_customer
from metering.customers.queries.time_zones import time_zones_in_use
from metering.customers.store import UnknownCustomerError
from metering.db.engine import transaction
from metering.months.close_months import CloseStep, CloseTerms, closable_zones, close_step
from metering.months.queries.progress import close_progress
from metering.months.store.closing import list_open_customers
from metering.months.store.runs import InvoiceRun, finish_run, start_run

CLOSE_BATCH = 500
_POLL_INTERVAL = timedelta(milliseconds=100)


# Called with (activity, done, total).
Progress = Callable[[str, int, int], None]


class MonthNotOverError(MeteringError):
    """The month and its grace have not ended for any customer."""


class ForceReasonMissingError(MeteringError):
    """A forced close has no reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """The terms of a run; see `InvoiceRun`."""

    period: BillingPeriod
    customer_id: str | None = None
    force_reason: str | None = None
    requested_by: Author
    as_of: datetime | None = None


def begin_run(*, engine: Engine, request: RunRequest, terms: CloseTerms, now: datetime) -> InvoiceRun:
    """Start a run that closes a month, or return the unfinished run with the same terms.

    Raises:
        MonthNotOverError: the month cannot be closed yet for any customer; the text says from when it can.
        ForceReasonMissingError: the reason for a forced close is empty.
        UnknownCustomerError: the customer does not exist.
    """
    if request.force_reason is not None and not request.force_reason.strip():
        raise ForceReasonMissingError("reason: required, it explains the late usage on the next invoice")
    at = request.as_of or now
    with transaction(engine) as connection:
        zones = _zones(connection, request.customer_id, now)
        until = at if request.force_reason else at - terms.grace
        if zones and not closable_zones(period=request.period, zones=zones, until=until):
            raise MonthNotOverError(_not_over(request, zones, terms))
        run = start_run(
            connection,
            period=request.period,
            customer_id=request.customer_id,
            force_reason=request.force_reason,
            requested_by=str(request.requested_by),
            as_of=request.as_of,
            now=now,
        )
        log_action(
            connection,
            by=request.requested_by,
            now=now,
            kind="invoices",
            action="close",
            subject=str(request.period),
            after={
                "run_id": run.run_id,
                "customer_id": request.customer_id,
                "force_reason": request.force_reason,
                "as_of": request.as_of,
            },
        )
    return run


def begin_scheduled_run(*, engine: Engine, terms: CloseTerms, now: datetime) -> InvoiceRun | None:
    """Start a run for the latest month that is over for some customers and still open for one of them.

    Returns the run, or None when there is nothing to close.
    """
    with transaction(engine) as connection:
        zones = time_zones_in_use(connection)
        months = {BillingPeriod.containing(at=now, time_zone=shown_zone(zone)).previous for zone in zones}
        for period in sorted(months, reverse=True):
            over = closable_zones(period=period, zones=zones, until=now - terms.grace)
            if over and list_open_customers(connection, period=period, time_zones=over, only=None):
                return start_run(
                    connection,
                    period=period,
                    customer_id=None,
                    force_reason=None,
                    requested_by="the schedule",
                    as_of=None,
                    now=now,
                )
    return None


def close_steps(
    *, engine: Engine, run: InvoiceRun, terms: CloseTerms, clock: Callable[[], datetime]
) -> Iterator[CloseStep]:
    """Close the run's month for every customer that it can be closed for, step by step, then finish the run.

    Any number of processes may do this for the same run. A caller may stop early; another process, or a later
    call, does the rest.
    """
    while True:
        step = close_step(engine=engine, run=run, terms=terms, now=clock(), limit=CLOSE_BATCH)
        yield step
        if step.done:
            break
        if not (step.invoiced or step.refused):
            time.sleep(_POLL_INTERVAL.total_seconds())  # other processes hold the remaining customers
    with transaction(engine) as connection:
        finish_run(connection, run.run_id, now=clock())


def close_run(
    *,
    engine: Engine,
    run: InvoiceRun,
    terms: CloseTerms,
    clock: Callable[[], datetime],
    progress: Progress = lambda *_: None,
) -> None:
    """Close the run's month and finish the run."""
    for _ in close_steps(engine=engine, run=run, terms=terms, clock=clock):
        with transaction(engine) as connection:
            so_far = close_progress(connection, period=str(run.period), run_id=run.run_id, only=run.customer_id)
        progress("closing", so_far.closed + so_far.refused, so_far.customers)


def _zones(connection: Connection, customer_id: str | None, now: datetime) -> list[str]:
    if customer_id is None:
        return list(time_zones_in_use(connection))
    customer = get_customer(connection, customer_id=customer_id, now=now)
    if customer is None:
        raise UnknownCustomerError(f"customer: there is no customer {customer_id!r}")
    return [customer.time_zone]


def _not_over(request: RunRequest, zones: list[str], terms: CloseTerms) -> str:
    ends = min(request.period.next.start(time_zone=zone) for zone in map(shown_zone, zones))
    grace = timedelta() if request.force_reason else terms.grace
    hours = f" plus METERING_CLOSE_GRACE ({grace / timedelta(hours=1):g} h)" if grace else ""
    return f"period: {request.period} can be closed from {(ends + grace).isoformat()}, its end{hours}"

"""Run a month: start closing it, for all customers or one, and close it beside any workers that do the same."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine

from metering.core.errors import MeteringError
from metering.core.period import BillingPeriod
from metering.customers.queries import get_customer, time_zones_in_use
from metering.customers.store import UnknownCustomerError
from metering.db.engine import transaction
from metering.months.close_months import CloseStep, CloseTerms, closable_zones, close_step
from metering.months.queries.progress import close_progress
from metering.months.store.closing import list_open_customers
from metering.months.store.runs import InvoiceRun, finish_run, start_run

CLOSE_BATCH = 500
_LOOK = timedelta(milliseconds=100)


# (what is being done, how far, of how many).
Progress = Callable[[str, int, int], None]


class MonthNotOverError(MeteringError):
    """The month has not ended, or its grace has not, for any customer."""


class ForceReasonMissingError(MeteringError):
    """Closing by force needs a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What somebody wants closed; see `InvoiceRun`."""

    period: BillingPeriod
    customer_id: str | None = None
    force_reason: str | None = None
    requested_by: str
    as_of: datetime | None = None


def begin_run(*, engine: Engine, request: RunRequest, terms: CloseTerms, now: datetime) -> InvoiceRun:
    """Record that a month is to be closed, or join the run that does it already.

    Raises:
        MonthNotOverError: it cannot be closed yet for anybody; says from when.
        ForceReasonMissingError, UnknownCustomerError.
    """
    if request.force_reason is not None and not request.force_reason.strip():
        raise ForceReasonMissingError("reason: say why, for whoever asks about the late usage of the next month")
    at = request.as_of or now
    with transaction(engine) as connection:
        zones = _zones(connection, request.customer_id, now)
        until = at if request.force_reason else at - terms.grace
        if zones and not closable_zones(period=request.period, zones=zones, until=until):
            raise MonthNotOverError(_not_over(request, zones, terms))
        return start_run(
            connection,
            period=request.period,
            customer_id=request.customer_id,
            force_reason=request.force_reason,
            requested_by=request.requested_by,
            as_of=request.as_of,
            now=now,
        )


def begin_scheduled_run(*, engine: Engine, terms: CloseTerms, now: datetime) -> InvoiceRun | None:
    """A run for the last month that is over for somebody; None when it is closed for all of those."""
    with transaction(engine) as connection:
        zones = time_zones_in_use(connection)
        months = {BillingPeriod.containing(at=now, time_zone=ZoneInfo(zone)).previous for zone in zones}
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
    """Close the run's month for every customer for whom it can be closed, a step at a time, then finish the run.

    Any number of processes may do this for the same run. A caller may stop early: others do the rest.
    """
    while True:
        step = close_step(engine=engine, run=run, terms=terms, now=clock(), limit=CLOSE_BATCH)
        yield step
        if step.done:
            break
        if not (step.invoiced or step.refused):
            time.sleep(_LOOK.total_seconds())  # other processes hold what is left
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
    """Close the run's month, and return when nothing is left to do."""
    for _ in close_steps(engine=engine, run=run, terms=terms, clock=clock):
        with transaction(engine) as connection:
            far = close_progress(connection, period=str(run.period), run_id=run.run_id, only=run.customer_id)
        progress("closing", far.closed + far.refused, far.customers)


def _zones(connection: Connection, customer_id: str | None, now: datetime) -> list[str]:
    if customer_id is None:
        return list(time_zones_in_use(connection))
    customer = get_customer(connection, customer_id=customer_id, now=now)
    if customer is None:
        raise UnknownCustomerError(f"customer: there is no customer {customer_id!r}")
    return [customer.time_zone]


def _not_over(request: RunRequest, zones: list[str], terms: CloseTerms) -> str:
    ends = min(request.period.next.start(time_zone=zone) for zone in map(ZoneInfo, zones))
    grace = timedelta() if request.force_reason else terms.grace
    hours = f" and METERING_CLOSE_GRACE ({grace / timedelta(hours=1):g} h)" if grace else ""
    return f"period: {request.period} can be closed from {(ends + grace).isoformat()} on, its end{hours}"

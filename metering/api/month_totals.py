"""`/v1/totals/months/{period}`: what a month of all customers costs, each by the bounds of its own invoice."""

from datetime import datetime
from typing import Annotated

from fastapi import Depends, Header, Path, Query
from starlette.responses import Response

from metering.access.scopes import Scope
from metering.api.auth import Caller, needs, require_customer
from metering.api.paging import Limit
from metering.api.parameters import CustomerFilter, Db, TheService
from metering.api.routes import v1_router
from metering.api.totals import GROUPS_CURSOR, GroupBy, TotalsPage, answer_with, groups_of
from metering.core.clock import utc_now
from metering.core.cursors import decode_cursor
from metering.core.period import PERIOD_PATTERN, BillingPeriod
from metering.customers.queries.month_bounds import BillingMonths, month_bounds
from metering.streams.accrue_streams import accrue_streams
from metering.totals.queries.question import TotalsQuestion
from metering.totals.queries.totals import read_totals
from metering.totals.ranges import Granularity

router = v1_router("totals")


def _period(
    period: Annotated[str, Path(description="The month.", pattern=f"^{PERIOD_PATTERN}$", examples=["2026-11"])],
) -> BillingPeriod:
    return BillingPeriod.parse(period)


@router.get(
    "/totals/months/{period}",
    operation_id="listMonthTotals",
    summary="Sum a billing month",
    response_model=TotalsPage,
    responses={304: {"description": "The figures are those of `If-None-Match`."}},
)
@needs(Scope.TOTALS_READ)
def read_month_totals(
    period: Annotated[BillingPeriod, Depends(_period)],
    key: Caller,
    connection: Db,
    service: TheService,
    by_day: Annotated[
        bool, Query(description="A row for each UTC day; the first and the last have the hours beyond them.")
    ] = False,
    group_by: GroupBy = "",
    customer_id: CustomerFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, GROUPS_CURSOR] = None,
    if_none_match: Annotated[str | None, Header(description="An ETag of an earlier answer.")] = None,
) -> Response:
    """Sums of a month of all customers or of one, by the bounds that its invoice has: the same figure everywhere.

    A customer's month begins and ends in its own time zone. `/v1/totals` sums any range, the same one for all.
    """
    groups = groups_of(group_by)
    customer = require_customer(key, customer_id)
    as_of = utc_now()
    months = BillingMonths(period=period)
    question = TotalsQuestion(
        from_=months.in_utc[0],
        to=months.in_utc[1],
        granularity=Granularity.DAY if by_day else Granularity.NONE,
        group_by=groups,
        customer_id=customer,
        after=decode_cursor(cursor, length=len(groups) + 1),
        limit=limit + 1,
        months=months,
    )
    first, last = period.in_any_zone
    open_streams = accrue_streams(
        connection, price_books=service.price_books, customer_id=customer, from_=first, to=last
    )
    bounds = month_bounds(connection, {each.customer_id: period for each in open_streams})
    accruals = [each for each in open_streams if _is_within(each.at, bounds[each.customer_id])]
    rows = read_totals(connection, question=question, accruals=accruals)
    return answer_with(rows, limit=limit, compared=False, as_of=as_of, if_none_match=if_none_match)


def _is_within(at: datetime, bounds: tuple[datetime, datetime]) -> bool:
    return bounds[0] <= at < bounds[1]

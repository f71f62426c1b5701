"""Totals of a month as pages show them: by group, by day, accrued, and sums over their rows."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from metering.core.money import ZERO, sum_cents
from metering.customers.queries.month_bounds import BillingMonths, month_bounds
from metering.dashboard.arranging import Sort
from metering.dashboard.months import Month
from metering.dashboard.page_request import PageRequest
from metering.streams.accrue_streams import Accrual, accrue_streams
from metering.totals.queries.orders import Order
from metering.totals.queries.question import Group, TotalRow, TotalsQuestion
from metering.totals.queries.totals import read_totals
from metering.totals.ranges import Granularity

# More than a month has by day and model.
_MAX_ROWS = 100_000
# The columns by which a ranking of many groups is sorted, with the order of the totals.
SORTS = {"cost": Order.COST, "streams": Order.STREAMS, "before": Order.BEFORE, "change": Order.RISE}
BY_COST = Sort("cost", descending=True)


def totals_by(
    request: PageRequest,
    month: Month,
    groups: Sequence[Group],
    *,
    customer_id: str | None,
    sort: Sort = BY_COST,
    after: Sequence[str] | None = None,
    limit: int = _MAX_ROWS,
    compared: bool = True,
    only: Mapping[Group, str] | None = None,
    counters: bool = False,
) -> Sequence[TotalRow]:
    """A month's final amounts by these groups, with those of the month before if `compared`.

    `sort` is one of `SORTS`; `after` the position of the last row of the page before. `only` filters by one value
    of a group, and without `counters` none are summed.
    """
    question = TotalsQuestion(
        from_=month.range_[0],
        to=month.range_[1],
        group_by=groups,
        customer_id=customer_id,
        compared=month.compared if compared else None,
        months=month.billing,
        compared_months=month.compared_billing if compared else None,
        order=SORTS[sort.column],
        smallest_first=not sort.descending,
        after=after,
        limit=limit,
        only=only or {},
        counters=counters,
    )
    return read_totals(request.connection, question=question)


def totals_by_day(
    request: PageRequest, month: Month, group: Group, *, customer_id: str | None
) -> Sequence[TotalRow]:
    """A month's final amounts by one group and the days of its calendar."""
    question = TotalsQuestion(
        from_=month.range_[0],
        to=month.range_[1],
        granularity=Granularity.DAY,
        group_by=[group],
        customer_id=customer_id,
        time_zone=month.zone if str(month.zone) != "UTC" else None,
        months=month.billing,
        limit=_MAX_ROWS,
        counters=False,
    )
    return read_totals(request.connection, question=question)


def before_by_day(request: PageRequest, month: Month, *, customer_id: str | None) -> Sequence[Decimal]:
    """The final amount of each day of what the month is compared with, in cents; empty if that is nothing."""
    if month.compared is None:
        return []
    from_, to = month.whole_before
    question = TotalsQuestion(
        from_=from_,
        to=to,
        granularity=Granularity.DAY,
        customer_id=customer_id,
        time_zone=month.zone if str(month.zone) != "UTC" else None,
        months=BillingMonths(period=month.period.previous) if month.billing else None,
        limit=_MAX_ROWS,
        counters=False,
    )
    rows = read_totals(request.connection, question=question)
    found = {row.start.astimezone(month.zone).date(): row.usd_cents for row in rows if row.start is not None}
    first, last = (each.astimezone(month.zone).date() for each in (from_, to - timedelta(microseconds=1)))
    return [found.get(first + timedelta(days=place), ZERO) for place in range((last - first).days + 1)]


def accruals(request: PageRequest, month: Month, *, customer_id: str | None) -> Sequence[Accrual]:
    """What each stream that is not final would cost if it ended now."""
    from_, to = month.period.in_any_zone if month.billing else month.range_
    found = accrue_streams(
        request.connection,
        price_books=request.service.price_books,
        customer_id=customer_id,
        from_=from_,
        to=to,
    )
    if month.billing is None:
        return found
    bounds = month_bounds(request.connection, {each.customer_id: month.period for each in found})
    return [each for each in found if bounds[each.customer_id][0] <= each.at < bounds[each.customer_id][1]]


def cost(rows: Sequence[TotalRow]) -> Decimal:
    """The sum of the rows' final amounts."""
    return sum_cents(row.usd_cents for row in rows)


def previous_cost(rows: Sequence[TotalRow]) -> Decimal:
    """The sum of the amounts that the rows are compared with."""
    return sum_cents(row.compared_usd_cents for row in rows)


def cost_where(rows: Sequence[TotalRow], group: Group, *values: str | bool) -> Decimal:
    """The sum of the rows whose group has one of these values."""
    return sum_cents(row.usd_cents for row in rows if row.group[group.value] in values)

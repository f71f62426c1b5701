"""What pages ask the totals, each in the words of a page."""

from collections.abc import Sequence
from decimal import Decimal

from metering.core.money import sum_cents
from metering.dashboard.asking import Asked
from metering.dashboard.months import Month
from metering.streams.accrue_streams import Accrual, accrue_streams
from metering.totals.queries.totals import Group, Order, TotalRow, TotalsQuestion, read_totals
from metering.totals.ranges import Granularity

# A month has fewer rows than this by day and model, whatever is sold.
_MOST_ROWS = 100_000


def by_groups(
    asked: Asked,
    month: Month,
    groups: Sequence[Group],
    *,
    customer_id: str | None,
    order: Order = Order.COST,
    limit: int = _MOST_ROWS,
    compared: bool = True,
) -> Sequence[TotalRow]:
    """A month's final amounts by these groups, beside those of the month before."""
    question = TotalsQuestion(
        from_=month.range_[0],
        to=month.range_[1],
        group_by=groups,
        customer_id=customer_id,
        compared=month.compared if compared else None,
        order=order,
        limit=limit,
    )
    return read_totals(asked.connection, question=question)


def by_day(asked: Asked, month: Month, group: Group, *, customer_id: str | None) -> Sequence[TotalRow]:
    """A month's final amounts by day of its calendar, and one group."""
    question = TotalsQuestion(
        from_=month.range_[0],
        to=month.range_[1],
        granularity=Granularity.DAY,
        group_by=[group],
        customer_id=customer_id,
        time_zone=month.zone if str(month.zone) != "UTC" else None,
        limit=_MOST_ROWS,
    )
    return read_totals(asked.connection, question=question)


def accruals_of(asked: Asked, month: Month, *, customer_id: str | None) -> Sequence[Accrual]:
    """What the streams that are not final would cost if they ended now."""
    return accrue_streams(
        asked.connection,
        price_books=asked.service.price_books,
        customer_id=customer_id,
        from_=month.range_[0],
        to=month.range_[1],
    )


def cost(rows: Sequence[TotalRow]) -> Decimal:
    """The sum of their final amounts."""
    return sum_cents(row.usd_cents for row in rows)


def compared_cost(rows: Sequence[TotalRow]) -> Decimal:
    """The sum of what they are compared with."""
    return sum_cents(row.compared_usd_cents for row in rows)


def cost_of(rows: Sequence[TotalRow], group: Group, *values: str | bool) -> Decimal:
    """The sum of those that have one of these values."""
    return sum_cents(row.usd_cents for row in rows if row.group[group.value] in values)

"""A month's summary, shared by the overview and the customer page: tiles, and the cost by day as a chart."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from metering.core.money import EXACT, sum_cents
from metering.dashboard.charts import Chart, stacked_by_day
from metering.dashboard.links import link
from metering.dashboard.month_totals import accruals, cost, cost_where, previous_cost, totals_by, totals_by_day
from metering.dashboard.months import Month, forecast
from metering.dashboard.page_request import PageRequest
from metering.dashboard.rankings import CREDITS
from metering.dashboard.values import change, counted, exact_money, money, share
from metering.events.events import Outcome, UsageSource
from metering.totals.queries.totals import Group, TotalRow

_STOPPED = (Outcome.CANCELLED, Outcome.ABANDONED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A figure with a title and details. `exact` has all of its digits; `flag` marks a figure to look at."""

    title: str
    value: str
    detail: str
    href: str | None = None
    exact: str | None = None
    flag: str | None = None


def money_tile(
    title: str, usd_cents: Decimal, detail: str, *, href: str | None = None, flag: str | None = None
) -> Tile:
    """An amount as a tile."""
    return Tile(
        title=title, value=money(usd_cents), exact=exact_money(usd_cents), detail=detail, href=href, flag=flag
    )


def cost_by_day(request: PageRequest, month: Month, *, customer_id: str | None, empty: str) -> Chart:
    """A month's cost by day of its calendar, stacked by model."""
    rows = totals_by_day(request, month, Group.MODEL, customer_id=customer_id)
    amounts = [
        (row.start, str(row.group["model"] or CREDITS), row.usd_cents) for row in rows if row.start is not None
    ]
    # A gateway whose clock is ahead ends streams tomorrow.
    days = sorted({*month.days, *(day for day, _, _ in amounts)})
    return stacked_by_day(
        amounts,
        days=days,
        name="cost-by-day",
        title="Cost by day and model",
        by="model",
        labels=[month.label(day) for day in days],
        dates=[month.date(day) for day in days],
        hrefs=[month.streams(customer_id=customer_id, day=month.day(day)) for day in days],
        empty=empty,
    )


def spending_tiles(
    request: PageRequest, month: Month, *, customer_id: str | None, outcomes: Sequence[TotalRow], chart: Chart
) -> list[Tile]:
    """Final, accrued, and the forecast of a running month; `outcomes` is the month by outcome and usage source."""
    final, before = cost(outcomes), previous_cost(outcomes)
    open_streams = accruals(request, month, customer_id=customer_id)
    accrued = sum_cents(each.usd_cents for each in open_streams)
    tiles = [
        money_tile("Final", final, f"{change(final, before)}; {month.compared_title}: {money(before)}",
                   href=month.streams(customer_id=customer_id)),
        money_tile("Accrued, not final", accrued, f"{counted(len(open_streams), 'stream')} in progress",
                   href=link("streams", state="open", customer_id=customer_id)),
    ]  # fmt: skip
    expected = forecast(month, by_day=chart.sums, spent=EXACT.add(final, accrued))
    if expected is not None:
        tiles.append(money_tile("Forecast", expected, "at month end, if costs continue as in the last 7 days"))
    return tiles


def quality_tiles(
    request: PageRequest, month: Month, *, customer_id: str | None, outcomes: Sequence[TotalRow]
) -> list[Tile]:
    """How much of the month's cost is of cancelled or abandoned streams, estimated, or of retries."""
    final = cost(outcomes)
    stopped = [row for row in outcomes if row.group["outcome"] in _STOPPED]
    estimated, stopped_estimated = (
        cost_where(rows, Group.USAGE_SOURCE, UsageSource.ESTIMATE) for rows in (outcomes, stopped)
    )
    retried = totals_by(request, month, [Group.RETRY], customer_id=customer_id, compared=False)
    retries = cost_where(retried, Group.RETRY, True)
    streams = partial(month.streams, customer_id=customer_id)
    return [
        money_tile("Cancelled and abandoned", cost(stopped),
                   f"{share(cost(stopped), final)} of cost; {share(stopped_estimated, cost(stopped))} of it"
                   " estimated",
                   href=streams(filters={"outcome": ",".join(_STOPPED)})),
        money_tile("Estimated usage", estimated, f"{share(estimated, final)} of cost, without a provider's count",
                   href=streams(filters={"usage_source": UsageSource.ESTIMATE.value})),
        money_tile("Retried requests", retries, f"{share(retries, final)} of cost, repeated after an early end",
                   href=streams(filters={"retry": "true"})),
    ]  # fmt: skip

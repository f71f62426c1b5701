"""What the overview and a customer's page both say of a month's spending: its chart by day, and its tiles."""

from collections.abc import Sequence
from functools import partial

from metering.core.money import EXACT, sum_cents
from metering.dashboard.asking import Asked, link
from metering.dashboard.charts import Chart, stacked_by_day
from metering.dashboard.links import streams_of
from metering.dashboard.months import Month, forecast
from metering.dashboard.questions import accruals_of, by_day, by_groups, compared_cost, cost, cost_of
from metering.dashboard.rankings import CREDITS
from metering.dashboard.tiles import Tile, compared_tile, money_tile
from metering.dashboard.values import counted, share
from metering.events.events import Outcome, UsageSource
from metering.totals.queries.totals import Group, TotalRow

_NOT_DELIVERED = (Outcome.CANCELLED, Outcome.ABANDONED)


def cost_by_day(asked: Asked, month: Month, *, customer_id: str | None, empty: str) -> Chart:
    """A month's cost by day of its calendar, stacked by model."""
    rows = by_day(asked, month, Group.MODEL, customer_id=customer_id)
    amounts = [
        (row.start, str(row.group["model"] or CREDITS), row.usd_cents) for row in rows if row.start is not None
    ]
    # A gateway whose clock is ahead has ended streams tomorrow.
    days = sorted({*month.days, *(day for day, _, _ in amounts)})
    return stacked_by_day(
        amounts,
        days=days,
        name="cost-by-day",
        title="Cost by day and model",
        by="model",
        labels=[month.label(day) for day in days],
        hrefs=[streams_of(customer_id=customer_id, within=month.day(day)) for day in days],
        empty=empty,
    )


def spending_tiles(
    asked: Asked, month: Month, *, customer_id: str | None, outcomes: Sequence[TotalRow], chart: Chart
) -> list[Tile]:
    """Final, accrued, and while it lasts what is expected; `outcomes` is the month by outcome and source."""
    final = cost(outcomes)
    accruals = accruals_of(asked, month, customer_id=customer_id)
    accrued = sum_cents(each.usd_cents for each in accruals)
    tiles = [
        compared_tile("Final", final, compared_cost(outcomes), month.compared_title,
                      href=streams_of(customer_id=customer_id, within=month.range_)),
        money_tile("Accrued, not final", accrued, f"{counted(len(accruals), 'stream')} under way",
                   href=link("streams", state="open", customer_id=customer_id)),
    ]  # fmt: skip
    expected = forecast(month, by_day=chart.sums, spent=EXACT.add(final, accrued))
    if expected is not None:
        detail = "if the days left are like the last seven"
        tiles.append(money_tile("Expected at month's end", expected, detail))
    return tiles


def quality_tiles(
    asked: Asked, month: Month, *, customer_id: str | None, outcomes: Sequence[TotalRow]
) -> list[Tile]:
    """What of the month's cost was cut short, is estimated, was asked twice."""
    final = cost(outcomes)
    lost = [row for row in outcomes if row.group["outcome"] in _NOT_DELIVERED]
    estimated, lost_estimated = (
        cost_of(rows, Group.USAGE_SOURCE, UsageSource.ESTIMATE) for rows in (outcomes, lost)
    )
    retried = by_groups(asked, month, [Group.RETRY], customer_id=customer_id, compared=False)
    retries = cost_of(retried, Group.RETRY, True)
    streams = partial(streams_of, customer_id=customer_id, within=month.range_)
    return [
        money_tile("Cancelled and abandoned", cost(lost),
                   f"{share(cost(lost), final)} of all; {share(lost_estimated, cost(lost))} of it estimated",
                   href=streams(outcome=",".join(_NOT_DELIVERED))),
        money_tile("Estimated", estimated, f"{share(estimated, final)} of all: nobody vouches for its tokens",
                   href=streams(usage_source=UsageSource.ESTIMATE.value)),
        money_tile("Retries", retries, f"{share(retries, final)} of all: asked again after an interruption",
                   href=streams(retry="true")),
    ]  # fmt: skip

"""The overview: what the month comes to, what is not final, what needs somebody, and where it comes from."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

from metering.dashboard.asking import Asked, Page, link
from metering.dashboard.charts import Chart, stacked_by_day
from metering.dashboard.links import streams_of
from metering.dashboard.months import Month, forecast, month_of
from metering.dashboard.questions import accruals_of, by_day, by_groups, compared_cost, cost, cost_of
from metering.dashboard.rankings import CREDITS, ranking
from metering.dashboard.tiles import Tile, compared_tile, money_tile
from metering.dashboard.values import age, count, counted, share
from metering.domain.events import Outcome, UsageSource
from metering.domain.money import EXACT, sum_cents
from metering.totals.backlog import count_backlog
from metering.totals.closing_view import invoiced
from metering.totals.reconciling import drift_left, reconciled_at
from metering.totals.totals import Group, Order, TotalRow

_TOP = 10
_NOT_DELIVERED = (Outcome.CANCELLED, Outcome.ABANDONED)
# Reconciling is done once a day, unless set otherwise; after two nobody should trust the last one.
_STALE = timedelta(days=2)

EMPTY = "Nothing is final in this month yet. Post events to /v1/events; `metering demo --keep` shows how it looks."


def overview(asked: Asked) -> Page:
    """The first page."""
    month = month_of(asked)
    customer_id = asked.viewer.customer_id
    outcomes = by_groups(asked, month, [Group.OUTCOME, Group.USAGE_SOURCE], customer_id=customer_id)
    chart = cost_by_day(asked, month, customer_id=customer_id)
    who = Group.CUSTOMER_ID if customer_id is None else Group.API_KEY_ID
    either = by_groups(asked, month, [who], customer_id=customer_id, limit=_TOP, order=Order.EITHER)
    top, movers = either[:_TOP], sorted(either, key=_moved, reverse=True)[:_TOP]
    models = by_groups(asked, month, [Group.PROVIDER, Group.MODEL], customer_id=customer_id, limit=_TOP)
    tables = [
        ranking("top", "Most expensive", top, month, groups=[who], empty=EMPTY),
        ranking("models", "By model", models, month, groups=[Group.PROVIDER, Group.MODEL], empty=EMPTY),
        ranking("movers", "Biggest movers", movers, month, groups=[who], empty=EMPTY),
        ranking("outcomes", "By outcome and who counted", outcomes, month,
                groups=[Group.OUTCOME, Group.USAGE_SOURCE], empty=EMPTY),
    ]  # fmt: skip
    return Page(
        template="overview.html.j2",
        title=f"Overview of {month.title}",
        section="overview",
        context={
            "month": month,
            "tiles": [*_spending(asked, month, outcomes, chart), *_care(asked, month, outcomes)],
            "chart": chart,
            "tables": tables,
        },
        tables=[chart.table, *tables],
    )


def _moved(row: TotalRow) -> Decimal:
    return abs(EXACT.subtract(row.usd_cents, row.compared_usd_cents))


def cost_by_day(asked: Asked, month: Month, *, customer_id: str | None) -> Chart:
    """A month's cost by day of its calendar, stacked by model."""
    rows = by_day(asked, month, Group.MODEL, customer_id=customer_id)
    days = month.days
    return stacked_by_day(
        {(row.start, str(row.group["model"] or CREDITS)): row.usd_cents for row in rows if row.start is not None},
        days=days,
        name="cost-by-day",
        title="Cost by day and model",
        labels=[month.label(day) for day in days],
        hrefs=[streams_of(customer_id=customer_id, from_=day, to=day + timedelta(days=1)) for day in days],
        empty=EMPTY,
    )


def _spending(asked: Asked, month: Month, outcomes: Sequence[TotalRow], chart: Chart) -> list[Tile]:
    """Final, accrued, forecast, invoiced."""
    customer_id = asked.viewer.customer_id
    final = cost(outcomes)
    accruals = accruals_of(asked, month, customer_id=customer_id)
    accrued = sum_cents(each.usd_cents for each in accruals)
    expected = forecast(month, by_day=chart.sums, spent=EXACT.add(final, accrued))
    bills = invoiced(asked.connection, period=str(month.period), customer_id=customer_id)
    tiles = [
        compared_tile("Final", final, compared_cost(outcomes), month.compared_title,
                      href=streams_of(customer_id=customer_id, within=month.range_)),
        money_tile("Accrued, not final", accrued, f"{counted(len(accruals), 'stream')} under way",
                   href=link("streams", state="open")),
    ]  # fmt: skip
    if expected is not None:
        tiles.append(money_tile("Expected at month's end", expected, "if the days left are like the last seven"))
    detail = counted(bills.count, "invoice") if bills.count else "closed after the month's end"
    billed = Decimal(bills.billed_cents)
    return [*tiles, money_tile("Invoiced", billed, detail, href=link("invoices", month=str(month.period)))]


def _care(asked: Asked, month: Month, outcomes: Sequence[TotalRow]) -> list[Tile]:
    """What was cut short, what is estimated, what was asked twice, what needs somebody."""
    customer_id = asked.viewer.customer_id
    final = cost(outcomes)
    lost = cost_of(outcomes, Group.OUTCOME, *_NOT_DELIVERED)
    estimated = cost_of(outcomes, Group.USAGE_SOURCE, UsageSource.ESTIMATE)
    lost_estimated = cost_of(
        [row for row in outcomes if row.group["outcome"] in _NOT_DELIVERED],
        Group.USAGE_SOURCE,
        UsageSource.ESTIMATE,
    )
    retried = by_groups(asked, month, [Group.RETRY], customer_id=customer_id, compared=False)
    retries = cost_of(retried, Group.RETRY, True)
    waiting = count_backlog(asked.connection, customer_id=customer_id)
    within = month.range_
    tiles = [
        money_tile("Cancelled and abandoned", lost,
                   f"{share(lost, final)} of all; {share(lost_estimated, lost)} of it estimated",
                   href=streams_of(customer_id=customer_id, within=within, outcome=",".join(_NOT_DELIVERED))),
        money_tile("Estimated", estimated, f"{share(estimated, final)} of all: nobody vouches for its tokens",
                   href=streams_of(customer_id=customer_id, within=within, usage_source="estimate")),
        money_tile("Retries", retries, f"{share(retries, final)} of all: asked again after an interruption",
                   href=streams_of(customer_id=customer_id, within=within, retry="true")),
        Tile(title="Needs a person", value=count(waiting), href=link("backlog"),
             detail="streams wait for a start, a rate or a decision" if waiting else "nothing waits",
             flag="look" if waiting else None),
    ]  # fmt: skip
    return tiles if customer_id is not None else [*tiles, _stripe(asked)]


def _stripe(asked: Asked) -> Tile:
    """By how much Stripe differs from us, whichever way, and how old that is."""
    title, href = "Stripe differs by", link("drift")
    last = reconciled_at(asked.connection)
    if last is None:
        return Tile(title=title, value="–", detail="never compared yet: `metering reconcile`", href=href)
    left = drift_left(asked.connection)
    since = asked.now - last
    findings = sum(each.findings for each in left)
    detail = f"{counted(findings, 'difference')} left" if findings else "everything is there as it should be"
    flag = "look" if findings else ("stale" if since > _STALE else None)
    cents = Decimal(sum(each.cents for each in left))
    return money_tile(title, cents, f"{detail}; compared {age(since)} ago", href=href, flag=flag)

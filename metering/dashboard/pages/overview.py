"""The overview: the month's cost, what is not final, what needs attention, and the largest shares."""

from datetime import timedelta
from decimal import Decimal

from metering.core.money import EXACT
from metering.corrections.queries import count_backlog
from metering.dashboard.bridge import bridge
from metering.dashboard.links import link
from metering.dashboard.month_summary import Tile, cost_by_day, money_tile, quality_tiles, spending_tiles
from metering.dashboard.month_totals import cost, totals_by
from metering.dashboard.months import Month, requested_month
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.pages.customers import customer_of
from metering.dashboard.rankings import ranking
from metering.dashboard.values import age, count, counted
from metering.months.queries.invoices import invoiced
from metering.stripe.queries.reconciliations import drift_left, reconciled_at
from metering.totals.queries.totals import Group, Order, TotalRow

_TOP = 10
# By default, reconciliation runs once a day; a result older than two days is stale.
_STALE = timedelta(days=2)

EMPTY = (
    "No final streams in this month yet. Post events to /v1/events, or run `metering demo --keep` for sample data."
)


def overview(request: PageRequest) -> Page:
    """The page: of all customers, or of the one customer that the viewer's key is bound to."""
    if request.viewer.customer_id is not None:
        return customer_of(request, request.viewer.customer_id)
    month = requested_month(request)
    outcomes = totals_by(request, month, [Group.OUTCOME, Group.USAGE_SOURCE], customer_id=None)
    chart = cost_by_day(request, month, customer_id=None, empty=EMPTY)
    who = Group.CUSTOMER_ID
    either = totals_by(request, month, [who], customer_id=None, limit=_TOP, order=Order.EITHER)
    top, movers = either[:_TOP], sorted(either, key=_change_size, reverse=True)[:_TOP]
    models = totals_by(request, month, [Group.PROVIDER, Group.MODEL], customer_id=None, limit=_TOP)
    spent = cost(outcomes)
    bridged = bridge(request, month, customer_id=None, final=spent)
    tables = [
        *([bridged] if bridged else ()),
        ranking("top", "Highest cost", top, month, groups=[who], empty=EMPTY, of=spent),
        ranking("models", "By model", models, month, groups=[Group.PROVIDER, Group.MODEL], empty=EMPTY, of=spent),
        ranking("movers", "Largest changes", movers, month, groups=[who], empty=EMPTY, of=spent),
        ranking("outcomes", "By outcome and usage source", outcomes, month,
                groups=[Group.OUTCOME, Group.USAGE_SOURCE], empty=EMPTY),
    ]  # fmt: skip
    tiles = [
        *spending_tiles(request, month, customer_id=None, outcomes=outcomes, chart=chart),
        _invoiced(request, month),
        *quality_tiles(request, month, customer_id=None, outcomes=outcomes),
        _waiting(request),
        _stripe(request),
    ]
    return Page(
        template="overview.html.j2",
        title=f"Overview of {month.title}",
        section="overview",
        calendar=month.calendar,
        context={
            "month": month,
            "tiles": tiles,
            "chart": chart,
            "tables": tables,
        },
        tables=[chart.table, *tables],
    )


def _change_size(row: TotalRow) -> Decimal:
    return abs(EXACT.subtract(row.usd_cents, row.compared_usd_cents))


def _invoiced(request: PageRequest, month: Month) -> Tile:
    """The month's invoices."""
    bills = invoiced(request.connection, period=str(month.period), customer_id=None)
    detail = counted(bills.count, "invoice") if bills.count else "the month is closed after its end"
    return money_tile(
        "Invoiced", Decimal(bills.billed_cents), detail, href=link("invoices", month=str(month.period))
    )


def _waiting(request: PageRequest) -> Tile:
    """The streams in the backlog."""
    waiting = count_backlog(request.connection, customer_id=None)
    detail = "streams wait for a start, a rate or a decision" if waiting else "the backlog is empty"
    flag = "attention" if waiting else None
    return Tile(title="Needs attention", value=count(waiting), detail=detail, href=link("backlog"), flag=flag)


def _stripe(request: PageRequest) -> Tile:
    """The sum of all differences to Stripe, in either direction, and the age of the last reconciliation."""
    title, href = "Unreconciled with Stripe", link("drift")
    last = reconciled_at(request.connection)
    if last is None:
        return Tile(title=title, value="–", detail="no reconciliation yet: run `metering reconcile`", href=href)
    left = drift_left(request.connection)
    since = request.now - last
    findings = sum(each.findings for each in left)
    detail = f"{counted(findings, 'difference')} not repaired" if findings else "no differences"
    flag = "attention" if findings else ("stale" if since > _STALE else None)
    cents = Decimal(sum(each.cents for each in left))
    return money_tile(title, cents, f"{detail}; compared {age(since)} ago", href=href, flag=flag)

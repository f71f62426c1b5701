"""The overview: what the month comes to, what is not final, what needs somebody, and where it comes from."""

from datetime import timedelta
from decimal import Decimal

from metering.core.money import EXACT
from metering.corrections.queries import count_backlog
from metering.dashboard.asking import Asked, Page, link
from metering.dashboard.months import Month, month_of
from metering.dashboard.questions import by_groups, cost
from metering.dashboard.rankings import ranking
from metering.dashboard.spending import cost_by_day, quality_tiles, spending_tiles
from metering.dashboard.tiles import Tile, money_tile
from metering.dashboard.values import age, count, counted
from metering.months.queries.invoices import invoiced
from metering.stripe.queries.reconciliations import drift_left, reconciled_at
from metering.totals.queries.totals import Group, Order, TotalRow

_TOP = 10
# Reconciling is done once a day, unless set otherwise; after two nobody should trust the last one.
_STALE = timedelta(days=2)

EMPTY = "Nothing is final in this month yet. Post events to /v1/events; `metering demo --keep` shows how it looks."


def overview(asked: Asked) -> Page:
    """The first page."""
    month = month_of(asked)
    customer_id = asked.viewer.customer_id
    outcomes = by_groups(asked, month, [Group.OUTCOME, Group.USAGE_SOURCE], customer_id=customer_id)
    chart = cost_by_day(asked, month, customer_id=customer_id, empty=EMPTY)
    who = Group.CUSTOMER_ID if customer_id is None else Group.API_KEY_ID
    either = by_groups(asked, month, [who], customer_id=customer_id, limit=_TOP, order=Order.EITHER)
    top, movers = either[:_TOP], sorted(either, key=_moved, reverse=True)[:_TOP]
    models = by_groups(asked, month, [Group.PROVIDER, Group.MODEL], customer_id=customer_id, limit=_TOP)
    spent = cost(outcomes)
    tables = [
        ranking("top", "Most expensive", top, month, groups=[who], empty=EMPTY, of=spent),
        ranking("models", "By model", models, month, groups=[Group.PROVIDER, Group.MODEL], empty=EMPTY, of=spent),
        ranking("movers", "Biggest movers", movers, month, groups=[who], empty=EMPTY, of=spent),
        ranking("outcomes", "By outcome and who counted", outcomes, month,
                groups=[Group.OUTCOME, Group.USAGE_SOURCE], empty=EMPTY),
    ]  # fmt: skip
    tiles = [
        *spending_tiles(asked, month, customer_id=customer_id, outcomes=outcomes, chart=chart),
        _invoiced(asked, month),
        *quality_tiles(asked, month, customer_id=customer_id, outcomes=outcomes),
        _waiting(asked),
    ]
    if customer_id is None:
        tiles.append(_stripe(asked))
    return Page(
        template="overview.html.j2",
        title=f"Overview of {month.title}",
        section="overview",
        context={
            "month": month,
            "tiles": tiles,
            "chart": chart,
            "tables": tables,
        },
        tables=[chart.table, *tables],
    )


def _moved(row: TotalRow) -> Decimal:
    return abs(EXACT.subtract(row.usd_cents, row.compared_usd_cents))


def _invoiced(asked: Asked, month: Month) -> Tile:
    """What is billed of the month."""
    bills = invoiced(asked.connection, period=str(month.period), customer_id=asked.viewer.customer_id)
    detail = counted(bills.count, "invoice") if bills.count else "closed after the month's end"
    return money_tile(
        "Invoiced", Decimal(bills.billed_cents), detail, href=link("invoices", month=str(month.period))
    )


def _waiting(asked: Asked) -> Tile:
    """What nobody but a person can settle."""
    waiting = count_backlog(asked.connection, customer_id=asked.viewer.customer_id)
    detail = "streams wait for a start, a rate or a decision" if waiting else "nothing waits"
    flag = "look" if waiting else None
    return Tile(title="Needs a person", value=count(waiting), detail=detail, href=link("backlog"), flag=flag)


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

"""The overview: what the month costs, what needs attention, the cost by day, and who and what it is of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from metering.core.money import sum_cents
from metering.corrections.candidates import estimate_in_backlog
from metering.corrections.queries import count_backlog, list_backlog
from metering.dashboard.bridge import bridge
from metering.dashboard.links import link
from metering.dashboard.month_summary import cost_by_day, headline, quality_tiles
from metering.dashboard.month_totals import BY_COST, SORTS, cost, previous_cost, totals_by
from metering.dashboard.months import Month, month_menu, requested_month
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.pages.customers import customer_of
from metering.dashboard.pages.start import start_of
from metering.dashboard.rankings import ranking
from metering.dashboard.tables import Table
from metering.dashboard.values import counted, money
from metering.ledger.queries.streams import first_steps
from metering.stripe.push import PushState
from metering.stripe.queries.pushes import standing_pushes
from metering.stripe.queries.reconciliations import drift_left, reconciled_at
from metering.totals.queries.question import Group, TotalRow

_TOP = 10
# The costs of so many streams of the backlog are added up.
_VALUED = 100
# By default, reconciliation runs once a day; a result older than two days is stale.
_STALE = timedelta(days=2)

EMPTY = (
    "No final streams in this month yet. Post events to /v1/events, or run `metering demo --keep` for sample data."
)


@dataclass(frozen=True, slots=True)
class Tab:
    """One way to divide the month: its name in links and files, its title, and its groups."""

    name: str
    title: str
    groups: Sequence[Group]


TABS = (
    Tab("top", "Customers", (Group.CUSTOMER_ID,)),
    Tab("models", "Models", (Group.PROVIDER, Group.MODEL)),
    Tab("keys", "API keys", (Group.API_KEY_ID,)),
    Tab("outcomes", "Outcomes", (Group.OUTCOME, Group.USAGE_SOURCE)),
    Tab("inlets", "Inlets", (Group.INLET,)),
)


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that a person should look at, with the page for it. `at` is when it was, which ends the text."""

    says: str
    action: str
    href: str
    at: datetime | None = None


def overview(request: PageRequest) -> Page:
    """The page: of all customers, or of the one customer that the viewer's key is bound to."""
    if request.viewer.customer_id is not None:
        return customer_of(request, request.viewer.customer_id)
    asks_nothing = not request.filters and not request.for_file
    if asks_nothing and not (far := first_steps(request.connection)).final:
        return start_of(request, far)
    month = requested_month(request)
    outcomes = totals_by(request, month, [Group.OUTCOME, Group.USAGE_SOURCE], customer_id=None)
    chart = cost_by_day(request, month, customer_id=None, empty=EMPTY)
    bridged = bridge(request, month, customer_id=None, final=cost(outcomes))
    tab = _tab(request)
    table = _divided(request, month, tab, outcomes)
    return Page(
        template="overview.html.j2",
        title=f"Overview of {month.title}",
        section="overview",
        calendar=month.calendar,
        context={
            "month": month,
            "menu": month_menu(request, month),
            "headline": headline(request, month, customer_id=None, outcomes=outcomes, chart=chart),
            "attention": list(_attention(request)) if month.is_current else [],
            "tiles": quality_tiles(request, month, customer_id=None, outcomes=outcomes),
            "chart": chart,
            "tabs": TABS,
            "tab": tab,
            "table": table,
            "bridge": bridged,
        },
        tables=[chart.table, table, *([bridged] if bridged else ())],
    )


def _tab(request: PageRequest) -> Tab:
    """The tab that is open, or whose file is requested."""
    names = [each.name for each in TABS]
    wanted = request.query.get("csv")
    name = wanted if wanted in names else request.one_of("by", names)
    return next((each for each in TABS if each.name == name), TABS[0])


def _divided(request: PageRequest, month: Month, tab: Tab, outcomes: Sequence[TotalRow]) -> Table:
    sort = request.sort(tab.name, by=tuple(SORTS), default=str(BY_COST))
    limit = request.list_limit(tab.name, _TOP)
    rows = totals_by(request, month, tab.groups, customer_id=None, limit=limit + 1, sort=sort)
    whole = (cost(outcomes), previous_cost(outcomes))
    table = ranking(
        tab.name, tab.title, rows[:limit], month, groups=tab.groups, empty=EMPTY, whole=whole, sort=sort
    )
    # The rest is a row of its own.
    return table if len(rows) <= limit or table.rest else replace(table, whole=False)


def _at_stake(request: PageRequest) -> str:
    """What the streams of the backlog would cost as they are, as far as that is known."""
    prices = request.service.price_books.current(request.connection)
    found = list_backlog(request.connection, state=None, customer_id=None, after=None, limit=_VALUED)
    costs = [estimate_in_backlog(each.stream.facts, each.stream.state, prices).usd_cents for each in found]
    known = [each for each in costs if each is not None]
    if not known:
        return ", and what they cost is not known"
    left = "" if len(known) == len(found) else ", without those whose cost is not known"
    return f": {money(sum_cents(known))} as they are{left}"


def _attention(request: PageRequest) -> Iterator[Attention]:
    """What waits for a person now, the most urgent first."""
    if waiting := count_backlog(request.connection, customer_id=None):
        says = f"{counted(waiting, 'ended stream')} cannot be billed yet"
        yield Attention(
            says + (_at_stake(request) if waiting <= _VALUED else ""), "Open the backlog", link("backlog")
        )
    stuck = sum(each.count for each in standing_pushes(request.connection) if each.state is PushState.STUCK)
    if stuck:
        yield Attention(f"{counted(stuck, 'invoice')} cannot be pushed to Stripe", "See them",
                        link("invoices", state=PushState.STUCK.value))  # fmt: skip
    left = drift_left(request.connection)
    findings = sum(each.findings for each in left)
    if findings:
        cents = Decimal(sum(each.cents for each in left))
        says = f"Stripe differs by {money(cents)} in {counted(findings, 'finding')}"
        yield Attention(says, "Compare", link("drift"))
    last = reconciled_at(request.connection)
    if last is not None and request.now - last > _STALE:
        yield Attention("The last reconciliation with Stripe was", "See it", link("drift"), last)

"""Customers, the most expensive first or searched; and one customer, by its own calendar."""

from dataclasses import replace
from decimal import Decimal
from zoneinfo import ZoneInfo

from metering.alerts.alerts import AlertKind
from metering.alerts.queries.alerts import list_alerts
from metering.customers.queries import CustomerView, find_customers, get_customer
from metering.dashboard.asking import Asked, Page, link
from metering.dashboard.errors import NoSuchThingError
from metering.dashboard.links import customer_page
from metering.dashboard.months import month_of
from metering.dashboard.pages.invoices import invoice_table
from metering.dashboard.questions import by_groups, cost
from metering.dashboard.rankings import ranking
from metering.dashboard.spending import cost_by_day, quality_tiles, spending_tiles
from metering.dashboard.tables import Cell, Column, Kind, Table
from metering.dashboard.tiles import Tile, money_tile
from metering.dashboard.values import share
from metering.ledger.queries.charges import list_manual_adjustments
from metering.months.queries.invoices import InvoiceFilter, list_invoices
from metering.totals.queries.totals import Group

_PAGE, _SHOWN = 100, 24
EMPTY = "No customer has used anything in this month."


def customers(asked: Asked) -> Page:
    """The page of customers, or what a search found."""
    if asked.viewer.customer_id is not None:
        raise NoSuchThingError("your key sees one customer only: see “Your account”")
    month = month_of(asked)
    searched = asked.text("q")
    if searched is not None:
        table = _found(asked, searched)
    else:
        limit = asked.all_of("customers", _PAGE)
        rows = by_groups(asked, month, [Group.CUSTOMER_ID], customer_id=None, limit=limit + 1)
        whole = len(rows) <= limit
        title = "The most expensive first" if whole else f"The {limit:,} most expensive"
        spent = cost(rows if whole else by_groups(asked, month, [], customer_id=None, compared=False))
        table = ranking("customers", title, rows[:limit], month, groups=[Group.CUSTOMER_ID], empty=EMPTY, of=spent)
        table = replace(table, whole=whole)
    return Page(
        template="customers.html.j2",
        title="Customers",
        section="customers",
        context={"month": month, "table": table, "searched": searched},
        tables=[table],
    )


def _found(asked: Asked, searched: str) -> Table:
    limit = asked.all_of("customers", _PAGE)
    found = find_customers(asked.connection, now=asked.now, prefix=searched, limit=limit + 1)
    return Table(
        name="customers",
        title=f"Customers whose id or name begins with “{searched}”",
        columns=[
            Column("customer_id", "Customer"),
            Column("name", "Name"),
            Column("time_zone", "Time zone"),
            Column("stripe_customer_id", "At Stripe", Kind.CODE),
            Column("month_to_date", "Month to date", Kind.MONEY),
        ],
        rows=[
            {
                "customer_id": Cell(each.customer_id, customer_page(each.customer_id)),
                "name": each.name,
                "time_zone": each.time_zone,
                "stripe_customer_id": each.stripe_customer_id or "unlinked",
                "month_to_date": each.month_to_date_usd_cents,
            }
            for each in found[:limit]
        ],
        whole=len(found) <= limit,
        empty="No customer's id or name begins so.",
    )


def customer(asked: Asked) -> Page:
    """The page of one customer."""
    customer_id = asked.customer(asked.id("customer_id"))
    assert customer_id is not None
    view = get_customer(asked.connection, customer_id=customer_id, now=asked.now)
    if view is None:
        raise NoSuchThingError(f"there is no customer {customer_id!r}")
    month = month_of(asked, zone=ZoneInfo(view.time_zone))
    chart = cost_by_day(asked, month, customer_id=customer_id, empty=EMPTY)
    groups = (("models", "By model", [Group.PROVIDER, Group.MODEL]), ("keys", "By API key", [Group.API_KEY_ID]),
              ("outcomes", "By outcome and who counted", [Group.OUTCOME, Group.USAGE_SOURCE]))  # fmt: skip
    rows = {name: by_groups(asked, month, by, customer_id=customer_id) for name, _, by in groups}
    tables = [
        ranking(name, title, rows[name], month, groups=by, empty=EMPTY, customer_id=customer_id)
        for name, title, by in groups
    ]
    limit = asked.all_of("invoices", _SHOWN)
    bills = list_invoices(
        asked.connection, where=InvoiceFilter(customer_id=customer_id), before=None, limit=limit + 1
    )
    tables += [
        invoice_table(
            asked, bills[:limit], empty="No month of this customer is closed yet.", whole=len(bills) <= limit
        ),
        _by_hand(asked, view),
    ]
    return Page(
        template="customer.html.j2",
        title=view.name or customer_id,
        section="customers",
        zone=view.time_zone,
        crumbs=[("Customers", link("customers"))] if asked.viewer.customer_id is None else [],
        context={
            "month": month,
            "customer": view,
            "tiles": [
                *spending_tiles(asked, month, customer_id=customer_id, outcomes=rows["outcomes"], chart=chart),
                *_budgets(asked, customer_id, spent=cost(rows["outcomes"])),
                *quality_tiles(asked, month, customer_id=customer_id, outcomes=rows["outcomes"]),
            ],
            "chart": chart,
            "tables": tables,
        },
        tables=[chart.table, *tables],
    )


def _budgets(asked: Asked, customer_id: str, *, spent: Decimal) -> list[Tile]:
    """How much of a month's budgets is spent, for those that are watched."""
    watched = list_alerts(
        asked.connection, customer_id=customer_id, kind=AlertKind.SPEND.value, after="", limit=_SHOWN
    )
    budgets = {each.terms.budget_usd_cents for each in watched if each.enabled and each.terms.budget_usd_cents}
    return [
        money_tile(
            "Budget",
            budget,
            f"{share(spent, budget)} of it is spent",
            href=link("alerts", kind=AlertKind.SPEND.value, customer_id=customer_id),
            flag="look" if spent >= budget else None,
        )
        for budget in sorted(budgets)
    ]


def _by_hand(asked: Asked, view: CustomerView) -> Table:
    """Credits and corrections."""
    limit = asked.all_of("adjustments", _SHOWN)
    found = list_manual_adjustments(
        asked.connection, customer_id=view.customer_id, period=None, after=None, limit=limit + 1
    )
    return Table(
        name="adjustments",
        title="Credits and corrections",
        columns=[
            Column("booked_at", "Booked", Kind.MOMENT),
            Column("kind", "Kind"),
            Column("reason", "Reason", Kind.PROSE),
            Column("stream_id", "Stream", Kind.CODE),
            Column("period", "Month"),
            Column("booked_by", "By"),
            Column("amount", "Amount", Kind.EXACT_MONEY),
        ],
        rows=[
            {
                "booked_at": each.booked_at,
                "kind": each.kind.value,
                "reason": each.reason,
                "stream_id": each.stream_id,
                "period": each.period,
                "booked_by": each.booked_by,
                "amount": each.usd_cents,
            }
            for each in found[:limit]
        ],
        whole=len(found) <= limit,
        empty="None were booked. An admin books them with POST /v1/adjustments.",
    )

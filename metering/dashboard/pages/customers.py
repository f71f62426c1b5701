"""The customers page, by cost or by search; and the page of one customer, in its time zone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from metering.alerts.alerts import AlertKind
from metering.alerts.queries.alerts import list_alerts
from metering.core.cursors import InvalidCursorError
from metering.core.time_zones import find_zone
from metering.customers.queries.customers import (
    CustomerView,
    find_customers,
    get_customer,
    similar_customers,
)
from metering.customers.queries.time_zones import zone_problems
from metering.dashboard.bridge import bridge
from metering.dashboard.errors import NotFoundError
from metering.dashboard.links import customer_cell, link
from metering.dashboard.month_summary import Tile, cost_by_day, headline, money_tile, quality_tiles
from metering.dashboard.month_totals import BY_COST, SORTS, cost, previous_cost, totals_by
from metering.dashboard.months import Month, month_menu, requested_month
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.pages.credits import balance_tile
from metering.dashboard.pages.invoices import invoice_table
from metering.dashboard.rankings import ranking
from metering.dashboard.tables import Column, Kind, Table
from metering.dashboard.values import share
from metering.ledger.queries.charges import list_manual_adjustments
from metering.months.queries.invoices import InvoiceFilter, list_invoices
from metering.totals.queries.orders import position_in
from metering.totals.queries.question import Group

_PAGE, _SHOWN, _GROUPS = 100, 24, 10
EMPTY = "No usage in this month."
# How long a link to a customer's page may last.
LINK_DAYS = (7, 1, 30, 90)


@dataclass(frozen=True, slots=True)
class ShownLink:
    """A link to a customer's page that was just made; it cannot be shown again."""

    key_id: str
    address: str
    ends_at: datetime


def customers(request: PageRequest) -> Page:
    """The page of all customers, or of the customers that a search finds."""
    if request.viewer.customer_id is not None:
        raise NotFoundError("your key may see one customer only: open the overview")
    month = requested_month(request)
    searched = request.text("q")
    if searched is not None:
        table, shown = _found(request, searched)
    else:
        table, shown = _ranked(request, month)
    return Page(
        template="customers.html.j2",
        title="Customers",
        section="customers",
        calendar=month.calendar,
        context={
            "month": month,
            "menu": month_menu(request, month),
            "table": table,
            "searched": searched,
            "similar": _groups(similar_customers(request.connection, shown)),
        },
        tables=[table],
    )


def _ranked(request: PageRequest, month: Month) -> tuple[Table, Sequence[str]]:
    """The table of the customers of a month, and their ids."""
    sort = request.sort("customers", by=tuple(SORTS), default=str(BY_COST))
    limit, after = request.page_limit("customers", _PAGE), _position(request)
    groups = [Group.CUSTOMER_ID]
    rows = totals_by(request, month, groups, customer_id=None, limit=limit + 1, sort=sort, after=after)
    last, shown = len(rows) <= limit, rows[:limit]
    all_of_them = rows if last and after is None else totals_by(request, month, [], customer_id=None)
    table = ranking(
        "customers",
        "Customers",
        shown,
        month,
        groups=groups,
        empty=EMPTY,
        whole=None if request.for_file else (cost(all_of_them), previous_cost(all_of_them)),
        sort=sort,
    )
    if not last:
        position = position_in(shown[-1], SORTS[sort.column])
        table = replace(table, more=request.next_page("customers", position))
    return table, [str(row.group["customer_id"]) for row in shown]


def _position(request: PageRequest) -> Sequence[str] | None:
    """Two amounts, the bucket, and the customer."""
    position = request.position(4)
    if position is not None and not all(map(_AMOUNT.fullmatch, position[:2])):
        raise InvalidCursorError("cursor: belongs to another query")
    return position


_AMOUNT = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?")


def _groups(similar: Mapping[str, Sequence[str]]) -> Sequence[Sequence[str]]:
    """The first customers whose ids look alike, each group once."""
    groups = {tuple(sorted((customer_id, *others))) for customer_id, others in similar.items()}
    return sorted(groups)[:_GROUPS]


def _found(request: PageRequest, searched: str) -> tuple[Table, Sequence[str]]:
    """The table of the customers found, and their ids."""
    limit = request.list_limit("customers", _PAGE)
    found = find_customers(request.connection, now=request.now, prefix=searched, limit=limit + 1)
    table = Table(
        name="customers",
        title=f"Customers with an ID or name that starts with “{searched}”",
        columns=[
            Column("customer_id", "Customer"),
            # A page has it above the id.
            *([Column("name", "Name")] if request.for_file else ()),
            Column("time_zone", "Time zone"),
            Column("stripe_customer_id", "Stripe ID", Kind.CODE),
            Column("month_to_date", "Month to date", Kind.MONEY),
        ],
        rows=[
            {
                "customer_id": customer_cell(each.customer_id),
                "name": each.name,
                "time_zone": each.time_zone if find_zone(each.time_zone) else f"{each.time_zone} (unusable)",
                "stripe_customer_id": each.stripe_customer_id or "unlinked",
                "month_to_date": each.month_to_date_usd_cents,
            }
            for each in found[:limit]
        ],
        whole=len(found) <= limit,
        empty="No customer matches.",
    )
    return table, [each.customer_id for each in found[:limit]]


def customer(request: PageRequest) -> Page:
    """The page of one customer."""
    customer_id = request.customer(request.id("customer_id"))
    assert customer_id is not None
    return customer_of(request, customer_id)


def customer_of(request: PageRequest, customer_id: str, *, shown: ShownLink | None = None) -> Page:
    """The page of a customer that the viewer may see, with the link that was just made."""
    view = get_customer(request.connection, customer_id=customer_id, now=request.now)
    if view is None:
        raise NotFoundError(f"there is no customer {customer_id!r} yet: its first event creates it")
    month = requested_month(request, customer_id=customer_id)
    problem = zone_problems(request.connection, [view.time_zone]).get(view.time_zone)
    alone = request.viewer.customer_id is not None
    similar = {} if alone else similar_customers(request.connection, [customer_id])
    chart = cost_by_day(request, month, customer_id=customer_id, empty=EMPTY)
    groups = (("models", "By model", [Group.PROVIDER, Group.MODEL]), ("keys", "By API key", [Group.API_KEY_ID]),
              ("outcomes", "By outcome and usage source", [Group.OUTCOME, Group.USAGE_SOURCE]))  # fmt: skip
    rows = {name: totals_by(request, month, by, customer_id=customer_id) for name, _, by in groups}
    tables = [
        ranking(name, title, rows[name], month, groups=by, empty=EMPTY, customer_id=customer_id)
        for name, title, by in groups
    ]
    credit = balance_tile(request, customer_id)
    bridged = bridge(request, month, customer_id=customer_id, final=cost(rows["outcomes"]))
    if bridged is not None:
        tables.insert(0, bridged)
    limit = request.list_limit("invoices", _SHOWN)
    bills = list_invoices(
        request.connection, where=InvoiceFilter(customer_id=customer_id), before=None, limit=limit + 1
    )
    tables += [
        invoice_table(request, bills[:limit], empty="No invoices yet.", whole=len(bills) <= limit),
        _adjustments(request, view),
    ]
    return Page(
        template="customer.html.j2",
        title=view.name or customer_id,
        section="customers" if request.viewer.customer_id is None else "overview",
        calendar=month.calendar,
        customer_id=customer_id,
        crumbs=[("Customers", link("customers"))] if request.viewer.customer_id is None else [],
        context={
            "month": month,
            "menu": month_menu(request, month),
            "customer": view,
            "zone_problem": problem,
            "similar": similar.get(customer_id, ()),
            "headline": headline(request, month, customer_id=customer_id, outcomes=rows["outcomes"], chart=chart),
            "tiles": [
                *([credit] if credit else []),
                *_budgets(request, customer_id, spent=cost(rows["outcomes"])),
                *quality_tiles(request, month, customer_id=customer_id, outcomes=rows["outcomes"]),
            ],
            "chart": chart,
            "tables": tables,
            "booked": request.text("booked"),
            "shown": shown,
            "link_days": LINK_DAYS,
        },
        tables=[chart.table, *tables],
    )


def _budgets(request: PageRequest, customer_id: str, *, spent: Decimal) -> list[Tile]:
    """The customer's budgets, from its enabled spend alerts, and how much of each is spent."""
    found = list_alerts(
        request.connection, customer_id=customer_id, kind=AlertKind.SPEND.value, after="", limit=_SHOWN
    )
    budgets = {each.terms.budget_usd_cents for each in found if each.enabled and each.terms.budget_usd_cents}
    return [
        money_tile(
            "Budget",
            budget,
            f"{share(spent, budget)} spent",
            href=link("alerts", kind=AlertKind.SPEND.value, customer_id=customer_id),
            flag="attention" if spent >= budget else None,
        )
        for budget in sorted(budgets)
    ]


def _adjustments(request: PageRequest, view: CustomerView) -> Table:
    """Manual credits and corrections."""
    limit = request.list_limit("adjustments", _SHOWN)
    found = list_manual_adjustments(
        request.connection, customer_id=view.customer_id, period=None, after=None, limit=limit + 1
    )
    return Table(
        name="adjustments",
        title="Credits and corrections",
        columns=[
            Column("booked_at", "Booked", Kind.TIME),
            Column("kind", "Kind"),
            Column("reason", "Reason", Kind.PROSE),
            Column("stream_id", "Stream", Kind.CODE),
            Column("period", "Month"),
            *([] if request.is_customers else [Column("booked_by", "Booked by")]),
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
        empty=request.words(
            "None. An admin books them below, or with POST /v1/adjustments.",
            to_customer="No credits or corrections.",
        ),
    )

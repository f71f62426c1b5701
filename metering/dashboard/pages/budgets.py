"""The budgets page: limits with what is spent, held and left; open holds; what was booked beyond holds."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal

from metering.budgets.budget import BudgetAction, BudgetScope, BudgetWindow, ScopeKind, Standing
from metering.budgets.queries.budgets import BudgetView, get_budget, list_budgets
from metering.budgets.queries.holds import list_open_holds, newest_overruns
from metering.core.money import ZERO
from metering.customers.queries.customers import first_customers
from metering.dashboard.links import customer_cell, customer_page, link, stream_cell
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table

_SHOWN, _OVERRUN_DAYS, _SUGGESTED = 100, 30, 200
_NO_LONGER_THAN = timedelta(days=366)


def budgets(request: PageRequest) -> Page:
    """The page, of one customer or of all and of the deployment."""
    customer_id = request.customer(request.text("customer_id"))
    is_alone = request.viewer.customer_id is not None
    tables = [_budgets(request, customer_id), _holds(request, customer_id), _overruns(request, customer_id)]
    return Page(
        template="budgets.html.j2",
        title="Budgets" if customer_id is None or is_alone else f"Budgets of {customer_id}",
        section="budgets",
        crumbs=[]
        if customer_id is None or is_alone
        else [("Customers", link("customers")), (customer_id, customer_page(customer_id))],
        context={
            "tables": tables,
            "customer_id": customer_id,
            "chosen": _chosen(request),
            "done": request.text("done"),
            "customers": () if is_alone else first_customers(request.connection, limit=_SUGGESTED),
            "windows": [each.value for each in BudgetWindow],
            "actions": [each.value for each in BudgetAction],
        },
        tables=tables,
    )


def _chosen(request: PageRequest) -> BudgetView | None:
    """The budget that the forms are about."""
    wanted = request.text("budget")
    if wanted is None or request.viewer.customer_id is not None:
        return None
    return get_budget(request.connection, budget_id=wanted, now=request.now)


def _budgets(request: PageRequest, customer_id: str | None) -> Table:
    limit = request.list_limit("budgets", _SHOWN)
    found = list_budgets(request.connection, now=request.now, customer_id=customer_id, after=None, limit=limit + 1)
    may_change = request.viewer.may("budgets:write") and request.viewer.customer_id is None
    return Table(
        name="budgets",
        title="Budgets",
        columns=[
            Column("budget_id", "Budget", Kind.CODE),
            Column("customer_id", "Customer", Kind.CODE),
            Column("of", "Of", Kind.PROSE),
            Column("window", "Window"),
            Column("limit", "Limit", Kind.MONEY),
            Column("used", "Used", Kind.SHARE),
            Column("spent", "Spent", Kind.MONEY),
            Column("held", "Held", Kind.MONEY),
            Column("headroom", "Headroom", Kind.MONEY),
            Column("runs_out", "Runs out", Kind.TIME),
            Column("resets_at", "Resets", Kind.TIME),
            Column("action", "If it does not fit"),
        ],
        rows=[_budget_row(view, request.now, may_change=may_change) for view in found[:limit]],
        empty="No budgets: spending is not limited.",
        whole=len(found) <= limit,
    )


def _budget_row(view: BudgetView, now: datetime, *, may_change: bool) -> Row:
    budget, standing = view.budget, view.standing
    used = max(standing.spent_usd_cents + standing.held_usd_cents, ZERO)
    href = link("budgets", budget=budget.budget_id) + "#change" if may_change else None
    return {
        "budget_id": Cell(budget.budget_id, href),
        "customer_id": customer_cell(budget.scope.customer_id or None),
        "of": _of(budget.scope),
        "window": budget.window.value,
        "limit": standing.limit_usd_cents,
        "used": (used, standing.limit_usd_cents) if standing.limit_usd_cents else None,
        "spent": standing.spent_usd_cents,
        "held": standing.held_usd_cents,
        "headroom": standing.headroom_usd_cents,
        "runs_out": runs_out(standing, now=now),
        "resets_at": standing.resets_at,
        "action": budget.action.value,
    }


def runs_out(standing: Standing, *, now: datetime) -> datetime | None:
    """When the budget is used up, if it is spent as it was since its window began; None: not in this window."""
    starts_at = standing.starts_at
    if starts_at is None or standing.spent_usd_cents <= 0 or standing.headroom_usd_cents <= 0:
        return None
    elapsed = Decimal((now - starts_at) // timedelta(seconds=1))
    seconds = (standing.headroom_usd_cents * elapsed / standing.spent_usd_cents).to_integral_value(ROUND_FLOOR)
    if seconds > _NO_LONGER_THAN // timedelta(seconds=1):
        return None
    at = now + timedelta(seconds=int(seconds))
    return at if standing.resets_at is None or at < standing.resets_at else None


def _of(scope: BudgetScope) -> str:
    match scope.kind:
        case ScopeKind.DEPLOYMENT:
            return "everything"
        case ScopeKind.API_KEY:
            return f"API key `{scope.api_key_id}`"
        case ScopeKind.TAG:
            return f"tag `{scope.tag_name}={scope.tag_value}`"
    return "all of its streams"


def _holds(request: PageRequest, customer_id: str | None) -> Table:
    limit = request.list_limit("holds", _SHOWN)
    found = list_open_holds(request.connection, customer_id=customer_id, after=None, limit=limit + 1)
    return Table(
        name="holds",
        title="Open holds",
        columns=[
            Column("stream_id", "Stream", Kind.CODE),
            Column("customer_id", "Customer", Kind.CODE),
            Column("model", "Model"),
            Column("held", "Held", Kind.EXACT_MONEY),
            Column("mode", "Mode"),
            Column("state", "State", Kind.STATE),
            Column("made_at", "Made", Kind.TIME),
            Column("expires_at", "Expires", Kind.TIME),
        ],
        rows=[
            {
                "stream_id": stream_cell(each.request.customer_id, each.request.stream_id),
                "customer_id": customer_cell(each.request.customer_id),
                "model": Cell(each.request.model, under=each.request.provider),
                "held": each.held_usd_cents,
                "mode": each.request.mode.value.replace("_", " "),
                "state": "stopped" if each.is_stopped else "open",
                "made_at": each.made_at,
                "expires_at": each.expires_at,
            }
            for each in found[:limit]
        ],
        empty="No stream holds anything now.",
        note="A hold expires only if its stream never begins.",
        whole=len(found) <= limit,
    )


def _overruns(request: PageRequest, customer_id: str | None) -> Table:
    limit = request.list_limit("overruns", _SHOWN)
    since = request.now - timedelta(days=_OVERRUN_DAYS)
    found = newest_overruns(request.connection, since=since, customer_id=customer_id, limit=limit + 1)
    rows: Sequence[Row] = [
        {
            "booked_at": each.booked_at,
            "customer_id": customer_cell(each.customer_id),
            "stream_id": stream_cell(each.customer_id, each.stream_id),
            "reason": each.reason.value.replace("_", " "),
            "beyond": each.usd_cents,
            "held": each.held_usd_cents,
        }
        for each in found[:limit]
    ]
    return Table(
        name="overruns",
        title="Booked beyond a hold",
        columns=[
            Column("booked_at", "Booked", Kind.TIME),
            Column("customer_id", "Customer", Kind.CODE),
            Column("stream_id", "Stream", Kind.CODE),
            Column("reason", "Reason"),
            Column("beyond", "Beyond", Kind.EXACT_MONEY),
            Column("held", "Held", Kind.EXACT_MONEY),
        ],
        rows=rows,
        empty=f"Nothing in the last {_OVERRUN_DAYS} days.",
        whole=len(found) <= limit,
    )

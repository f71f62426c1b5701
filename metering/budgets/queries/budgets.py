"""Queries for budgets with their figures in the current window."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from metering.budgets.budget import DEPLOYMENT, Budget, BudgetWindow, Span, Standing, standing_of, window_at
from metering.budgets.store.budgets import BUDGET_ROW, budget_of_row, zones_of
from metering.core.money import ZERO
from metering.credits.queries.balances import balances_of


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetView:
    """A budget, its figures in the window that contains a time, and how many holds are open against it."""

    budget: Budget
    standing: Standing
    open_holds: int


_COLUMNS = f"""
    SELECT {BUDGET_ROW}, w.starts_at, w.ends_at, w.spent_usd_cents FROM budgets b
    LEFT JOIN budget_windows w ON w.customer_id = b.customer_id AND w.budget_id = b.budget_id
         AND w.starts_at <= :now AND w.ends_at > :now
"""
_ONE = text(f"{_COLUMNS} WHERE b.ended_at IS NULL AND b.budget_id = :budget_id")
_PAGE = text(f"{_COLUMNS} WHERE b.ended_at IS NULL AND b.budget_id > :after ORDER BY b.budget_id LIMIT :limit")
_OF_CUSTOMER = text(
    f"""{_COLUMNS} WHERE b.ended_at IS NULL AND b.customer_id = :customer_id AND b.budget_id > :after
    ORDER BY b.budget_id LIMIT :limit"""
)
# Holds against a budget of the deployment are those of any customer.
_OPEN_HOLDS = text(
    """
    SELECT budget_id, count(*) AS holds FROM (
        SELECT unnest(h.budget_ids) AS budget_id FROM holds h
        WHERE h.state = 'open' AND (:of_any OR h.customer_id = ANY(:customer_ids))
    ) AS held WHERE budget_id = ANY(:budget_ids) GROUP BY 1
    """
)


def get_budget(connection: Connection, *, budget_id: str, now: datetime) -> BudgetView | None:
    """The budget with this id and its figures at `now`; None if there is none, or it has ended."""
    rows = connection.execute(_ONE, {"budget_id": budget_id, "now": now}).all()
    return next(iter(_views(connection, rows, now)), None)


def list_budgets(
    connection: Connection, *, now: datetime, customer_id: str | None = None, after: str | None, limit: int
) -> Sequence[BudgetView]:
    """Budgets in the order of their ids, of one customer or of all and of the deployment."""
    parameters: dict[str, Any] = {"now": now, "after": after or "", "limit": limit}
    statement = _PAGE
    if customer_id is not None:
        statement, parameters["customer_id"] = _OF_CUSTOMER, customer_id
    return _views(connection, connection.execute(statement, parameters).all(), now)


def _views(connection: Connection, rows: Sequence[Any], now: datetime) -> Sequence[BudgetView]:
    budgets = [budget_of_row(row) for row in rows]
    customers = {budget.scope.customer_id for budget in budgets} - {DEPLOYMENT}
    zones = zones_of(connection, [DEPLOYMENT, *customers])
    prepaid = {each.scope.customer_id for each in budgets if each.window is BudgetWindow.PREPAID}
    balances = balances_of(connection, prepaid, at=now) if prepaid else {}
    open_holds = _open_holds(connection, budgets) if budgets else {}
    return [
        BudgetView(
            budget=budget,
            standing=standing_of(
                budget,
                span=Span(row.starts_at, row.ends_at)
                if row.starts_at
                else window_at(budget.window, at=now, time_zone=zones[budget.scope.customer_id]),
                spent=row.spent_usd_cents or ZERO,
                held=budget.held_usd_cents,
                balance=_balance(balances, budget),
            ),
            open_holds=open_holds.get(budget.budget_id, 0),
        )
        for row, budget in zip(rows, budgets, strict=True)
    ]


def _open_holds(connection: Connection, budgets: Sequence[Budget]) -> dict[str, int]:
    customers = {budget.scope.customer_id for budget in budgets}
    parameters = {
        "of_any": DEPLOYMENT in customers,
        "customer_ids": list(customers),
        "budget_ids": [budget.budget_id for budget in budgets],
    }
    return {row.budget_id: row.holds for row in connection.execute(_OPEN_HOLDS, parameters)}


def _balance(balances: dict[str, Decimal], budget: Budget) -> Decimal:
    return balances.get(budget.scope.customer_id, ZERO)

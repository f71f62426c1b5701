"""SQL of budgets and their windows: what is held, spent and posted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from sqlalchemy import Connection, text

from metering.budgets.budget import (
    DEPLOYMENT,
    Budget,
    BudgetAction,
    BudgetScope,
    BudgetWindow,
    ScopeKind,
    Span,
    window_at,
)
from metering.core.time_zones import UTC_ZONE, shown_zone
from metering.db.rows import copy_rows, json_rows, moment
from metering.db.together import Query, Statement

# The select list for `budget_of_row`; `b` is an alias of `budgets`.
BUDGET_ROW = """b.customer_id, b.budget_id, b.scope, b.api_key_id, b.tag_name, b.tag_value, b.budget_window,
    b.limit_usd_cents, b.action, b.unknown_price_usd_cents, b.version, b.held_usd_cents, b.created_at,
    b.opened_at"""


def budget_of_row(row: Any) -> Budget:
    """The budget in a row selected with BUDGET_ROW."""
    return Budget(
        budget_id=row.budget_id,
        scope=BudgetScope(ScopeKind(row.scope), row.customer_id, row.api_key_id, row.tag_name, row.tag_value),
        window=BudgetWindow(row.budget_window),
        limit_usd_cents=row.limit_usd_cents,
        action=BudgetAction(row.action),
        unknown_price_usd_cents=row.unknown_price_usd_cents,
        version=row.version,
        held_usd_cents=row.held_usd_cents,
        created_at=row.created_at,
        opened_at=row.opened_at,
    )


_BUDGETS = text(
    f"""
    SELECT {BUDGET_ROW}, b.counted_from FROM budgets b
    WHERE b.ended_at IS NULL AND b.customer_id = ANY(:customer_ids)
    ORDER BY b.customer_id, b.budget_id
    """
)


class CountedBudget(Struct, frozen=True, gc=False):
    """A budget, and the start of its first window: what is filed before counts against nothing."""

    budget: Budget
    counted_from: datetime


def budgets_of(connection: Connection, customer_ids: Iterable[str]) -> list[CountedBudget]:
    """The budgets of these customers and of the deployment, in the order of their ids."""
    rows = connection.execute(_BUDGETS, {"customer_ids": [DEPLOYMENT, *customer_ids]})
    return [CountedBudget(budget_of_row(row), row.counted_from) for row in rows]


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """A window of a budget, and what was spent in it, in exact cents."""

    customer_id: str
    budget_id: str
    span: Span
    spent_usd_cents: Decimal


_OPEN = text(
    f"""
    SELECT {BUDGET_ROW}, w.starts_at, w.ends_at, w.spent_usd_cents
    FROM budgets b
    LEFT JOIN budget_windows w ON w.customer_id = b.customer_id AND w.budget_id = b.budget_id
         AND w.starts_at <= :at AND w.ends_at > :at AND b.budget_window <> 'prepaid'
    WHERE b.ended_at IS NULL AND b.opened_at IS NOT NULL AND b.customer_id = ANY(:customer_ids)
    ORDER BY b.customer_id, b.budget_id
    """
)


def open_budgets(customer_ids: Iterable[str], *, at: datetime) -> Query[list[tuple[Budget, StoredWindow | None]]]:
    """The open budgets of these customers and of the deployment, in the order of their ids.

    With each, its window at this time; None if there is none yet, or no window at all (prepaid).
    """
    return Query(
        _OPEN, {"customer_ids": [DEPLOYMENT, *customer_ids], "at": at}, lambda rows: list(map(_opened, rows))
    )


def _opened(row: Any) -> tuple[Budget, StoredWindow | None]:
    budget = budget_of_row(row)
    if row.starts_at is None:
        return budget, None
    span = Span(row.starts_at, row.ends_at)
    return budget, StoredWindow(row.customer_id, row.budget_id, span, row.spent_usd_cents)


_WINDOWS = text(
    """
    SELECT w.customer_id, w.budget_id, w.starts_at, w.ends_at, w.spent_usd_cents
    FROM json_to_recordset(CAST(:wanted AS json)) AS n (customer_id text, budget_id text, at timestamptz)
    JOIN budget_windows w ON w.customer_id = n.customer_id AND w.budget_id = n.budget_id
         AND w.starts_at <= n.at AND w.ends_at > n.at
    """
)
_NEIGHBOURS = text(
    """
    SELECT n.budget_id, n.at, max(w.ends_at) FILTER (WHERE w.ends_at <= n.at) AS ended_at,
           min(w.starts_at) FILTER (WHERE w.starts_at > n.at) AS starts_at
    FROM json_to_recordset(CAST(:wanted AS json)) AS n (customer_id text, budget_id text, at timestamptz)
    JOIN budget_windows w ON w.customer_id = n.customer_id AND w.budget_id = n.budget_id GROUP BY 1, 2
    """
)
_ADD_WINDOWS = text(
    """
    INSERT INTO budget_windows (customer_id, budget_id, starts_at, ends_at)
    SELECT customer_id, budget_id, starts_at, ends_at FROM json_to_recordset(CAST(:rows AS json))
         AS r (customer_id text, budget_id text, starts_at timestamptz, ends_at timestamptz)
    """
)
_TIME_ZONES = text("SELECT customer_id, time_zone FROM customers WHERE customer_id = ANY(:customer_ids)")


def zones_of(connection: Connection, customer_ids: Iterable[str]) -> dict[str, ZoneInfo]:
    """The time zone of each customer; the deployment, and customers that do not exist yet, have UTC."""
    wanted = list(customer_ids)
    rows = connection.execute(_TIME_ZONES, {"customer_ids": wanted})
    return dict.fromkeys(wanted, UTC_ZONE) | {row.customer_id: shown_zone(row.time_zone) for row in rows}


class _Wanted(Struct, frozen=True):
    customer_id: str
    budget_id: str
    at: datetime


def windows_at(
    connection: Connection, wanted: Iterable[tuple[Budget, datetime]]
) -> dict[tuple[str, datetime], StoredWindow]:
    """The window of each budget at each time, by (budget_id, time). Missing windows are made.

    A new window ends where the next one starts, and starts where the last one ended, also if the time zone of the
    customer has changed in between. Call it with the customers' money locked.
    """
    budgets = {(budget.budget_id, at): budget for budget, at in wanted}
    found = _read(connection, budgets)
    missing = {key: budget for key, budget in budgets.items() if key not in found}
    if missing:
        _make(connection, missing)
        found |= _read(connection, missing)
    return found


def _read(
    connection: Connection, budgets: Mapping[tuple[str, datetime], Budget]
) -> dict[tuple[str, datetime], StoredWindow]:
    rows = connection.execute(_WINDOWS, {"wanted": json_rows(_wanted(budgets))}).all()
    by_budget: dict[str, list[StoredWindow]] = {}
    for row in dict.fromkeys(map(tuple, rows)):
        customer_id, budget_id, starts_at, ends_at, spent = row
        by_budget.setdefault(budget_id, []).append(
            StoredWindow(customer_id, budget_id, Span(starts_at, ends_at), spent)
        )
    found: dict[tuple[str, datetime], StoredWindow] = {}
    for budget_id, at in budgets:
        for window in by_budget.get(budget_id, ()):
            if window.span.contains(at):
                found[budget_id, at] = window
    return found


def _make(connection: Connection, missing: Mapping[tuple[str, datetime], Budget]) -> None:
    zones = zones_of(connection, {budget.scope.customer_id for budget in missing.values()})
    made: dict[str, list[Span]] = {}
    rows: list[dict[str, Any]] = []
    found = connection.execute(_NEIGHBOURS, {"wanted": json_rows(_wanted(missing))})
    neighbours = {(row.budget_id, row.at): (row.ended_at, row.starts_at) for row in found}
    for (budget_id, at), budget in sorted(missing.items(), key=lambda each: each[0][1]):
        spans = made.setdefault(budget_id, [])
        if any(span.contains(at) for span in spans):
            continue
        before, after = neighbours.get((budget_id, at), (None, None))
        span = window_at(budget.window, at=at, time_zone=zones[budget.scope.customer_id])
        starts_at = max([span.starts_at, *([before] if before else []), *(one.ends_at for one in spans)])
        ends_at = min([span.ends_at, *([after] if after else [])])
        spans.append(Span(starts_at, ends_at))
        rows.append(
            {
                "customer_id": budget.scope.customer_id,
                "budget_id": budget_id,
                "starts_at": starts_at,
                "ends_at": ends_at,
            }
        )
    connection.execute(_ADD_WINDOWS, {"rows": json_rows(rows)})


def _wanted(budgets: Mapping[tuple[str, datetime], Budget]) -> Iterable[_Wanted]:
    return [_Wanted(budget.scope.customer_id, budget_id, at) for (budget_id, at), budget in budgets.items()]


_ADD_HELD = text(
    """
    UPDATE budgets b SET held_usd_cents = b.held_usd_cents + r.usd_cents
    FROM json_to_recordset(CAST(:rows AS json)) AS r (customer_id text, budget_id text, usd_cents numeric)
    WHERE b.customer_id = r.customer_id AND b.budget_id = r.budget_id
    """
)


def adding_held(changes: Iterable[tuple[Budget, Decimal]]) -> list[Statement]:
    """The statement that adds to what budgets hold, if that changes; below zero gives back.

    Budgets are given once each.
    """
    rows = [
        {"customer_id": budget.scope.customer_id, "budget_id": budget.budget_id, "usd_cents": amount}
        for budget, amount in changes
        if amount
    ]
    return [(_ADD_HELD, {"rows": json_rows(rows)})] if rows else []


_ADD_SPENT = text(
    """
    UPDATE budget_windows w SET spent_usd_cents = w.spent_usd_cents + r.usd_cents
    FROM json_to_recordset(CAST(:rows AS json))
         AS r (customer_id text, budget_id text, starts_at timestamptz, usd_cents numeric)
    WHERE w.customer_id = r.customer_id AND w.budget_id = r.budget_id AND w.starts_at = r.starts_at
    """
)


def add_spent(connection: Connection, changes: Iterable[tuple[StoredWindow, Decimal]]) -> None:
    """Add to what was spent in windows. Windows are given once each."""
    rows = [
        {
            "customer_id": window.customer_id,
            "budget_id": window.budget_id,
            "starts_at": window.span.starts_at,
            "usd_cents": amount,
        }
        for window, amount in changes
        if amount
    ]
    if rows:
        connection.execute(_ADD_SPENT, {"rows": json_rows(rows)})


class BudgetPosting(Struct, frozen=True, kw_only=True, gc=False):
    """An entry that counted against a budget's window, with its exact cents."""

    customer_id: str
    entry_id: str
    budget_id: str
    window_starts_at: datetime
    usd_cents: Decimal
    booked_at: datetime


_COPY_POSTINGS = (
    "COPY budget_postings (customer_id, entry_id, budget_id, window_starts_at, usd_cents, booked_at) FROM STDIN"
)


def add_postings(connection: Connection, postings: Sequence[BudgetPosting]) -> None:
    """Record which entries counted against which windows. The database refuses an entry twice."""
    copy_rows(
        connection,
        _COPY_POSTINGS,
        (
            (
                each.customer_id,
                each.entry_id,
                each.budget_id,
                moment(each.window_starts_at),
                each.usd_cents,
                moment(each.booked_at),
            )
            for each in postings
        ),
    )

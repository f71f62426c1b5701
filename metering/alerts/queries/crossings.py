"""Crossings: the thresholds that are reached and have not fired yet, for all customers at once; exhausted budgets.

Whether a threshold is reached is decided only here, in SQL, for customers and for the deployment. The comparison
is exact: amounts are multiplied, never divided.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from metering.alerts.alerts import Alert, AlertKind, AlertScope
from metering.alerts.budget_messages import ExhaustedBudget
from metering.alerts.messages import Crossing, Measured
from metering.alerts.queries.budget_figures import budget_windows, prepaid_balances
from metering.alerts.queries.customer_figures import customer_days, customer_months
from metering.alerts.queries.figures import (
    Figures,
    deployment_days,
    deployment_months,
    inconsistent_usage,
    oldest_backlog,
    open_drift,
    price_changes,
)
from metering.alerts.store.alerts import ALERT_ROW, alert_of_row
from metering.alerts.windows import OpenWindow, Window
from metering.budgets.budget import BudgetAction, Standing
from metering.customers.queries.time_zones import time_zones_in_use

# The condition under which a figure `f` reaches the threshold `t.threshold` of an alert `a`.
_REACHED: Mapping[AlertKind, str] = {
    AlertKind.SPEND: "f.usd_cents * 100 >= t.threshold * a.budget_usd_cents",
    # A threshold above zero is a rise, which can be found all day; one below zero is a fall, found once the day is
    # over.
    AlertKind.DAILY_CHANGE: """
        f.trailing_days = a.trailing_days AND CASE WHEN t.threshold > 0
        THEN f.usd_cents > 0 AND f.usd_cents >= a.floor_usd_cents
             AND f.usd_cents * a.trailing_days * 100 >= f.before_usd_cents * (100 + t.threshold)
        ELSE f.complete AND f.before_usd_cents > 0 AND f.before_usd_cents >= a.floor_usd_cents * a.trailing_days
             AND f.usd_cents * a.trailing_days * 100 <= f.before_usd_cents * (100 + t.threshold)
        END
    """,
    AlertKind.ESTIMATED_SHARE: """
        f.usd_cents > 0 AND f.usd_cents >= a.floor_usd_cents
        AND f.estimated_usd_cents * 100 >= t.threshold * f.usd_cents
    """,
    AlertKind.DRIFT: "f.usd_cents >= t.threshold",
    AlertKind.PRICE_CHANGE: "f.usd_cents >= t.threshold",
    AlertKind.INCONSISTENT_USAGE: "f.count >= t.threshold",
    AlertKind.BACKLOG_AGE: "extract(epoch FROM CAST(:now AS timestamptz) - f.since) >= t.threshold * 3600",
    # Nothing is no share of a limit of 0.
    AlertKind.BUDGET: "f.usd_cents > 0 AND f.usd_cents * 100 >= t.threshold * f.limit_usd_cents",
    AlertKind.BALANCE_BELOW: "f.usd_cents <= t.threshold",
}

_IN_FORCE = "a.kind = :kind AND a.enabled AND a.deleted_at IS NULL"
_SCOPES = text(
    f"SELECT DISTINCT a.scope, coalesce(a.trailing_days, 0) AS trailing_days FROM alerts a WHERE {_IN_FORCE}"
)
_WATCHED_CUSTOMERS = f"SELECT a.customer_id FROM alerts a WHERE {_IN_FORCE} AND a.scope = 'customer'"


def find_crossings(connection: Connection, *, kind: AlertKind, now: datetime, limit: int) -> Sequence[Crossing]:
    """Up to `limit` thresholds of enabled alerts of a kind that are reached at `now` and have not fired."""
    trailing_by_scope: dict[AlertScope, set[int]] = {}
    for row in connection.execute(_SCOPES, {"kind": kind.value}):
        trailing_by_scope.setdefault(AlertScope(row.scope), set()).add(row.trailing_days)
    found: list[Crossing] = []
    for figures in _figures(connection, kind, trailing_by_scope, now) if trailing_by_scope else ():
        found += _crossings(connection, kind, figures, now, limit - len(found))
        if len(found) >= limit:
            break
    return found


def _figures(
    connection: Connection, kind: AlertKind, trailing_by_scope: Mapping[AlertScope, set[int]], now: datetime
) -> Iterator[Figures]:
    if kind is AlertKind.BACKLOG_AGE:
        yield oldest_backlog(now=now)
    elif kind is AlertKind.INCONSISTENT_USAGE:
        yield inconsistent_usage(now=now)
    elif kind is AlertKind.DRIFT:
        if (drift := open_drift(connection, now=now)) is not None:
            yield drift
    elif kind is AlertKind.PRICE_CHANGE:
        if (changes := price_changes(connection, now=now)) is not None:
            yield changes
    elif kind is AlertKind.BUDGET:
        of_deployment = AlertScope.DEPLOYMENT in trailing_by_scope
        yield budget_windows(now=now, customers=_customers(trailing_by_scope), deployment=of_deployment)
    elif kind is AlertKind.BALANCE_BELOW:
        yield prepaid_balances(now=now, customers=_customers(trailing_by_scope))
    else:
        daily = kind is AlertKind.DAILY_CHANGE
        if AlertScope.DEPLOYMENT in trailing_by_scope:
            trailing = trailing_by_scope[AlertScope.DEPLOYMENT]
            yield (
                deployment_days(connection, now=now, trailing=trailing)
                if daily
                else deployment_months(connection, now=now)
            )
        of_customers = {
            scope: days for scope, days in trailing_by_scope.items() if scope is not AlertScope.DEPLOYMENT
        }
        if of_customers:
            time_zones = time_zones_in_use(connection)
            only = _customers(of_customers)
            trailing = set().union(*of_customers.values())
            yield (
                customer_days(now=now, time_zones=time_zones, trailing=trailing, only=only)
                if daily
                else customer_months(now=now, time_zones=time_zones, only=only)
            )


def _customers(scopes: Collection[AlertScope]) -> str | None:
    """A query for the customers that are watched; None when all are."""
    return None if AlertScope.EACH_CUSTOMER in scopes else _WATCHED_CUSTOMERS


# What is read of a figure. Figures of budgets and balances have columns of their own.
_COLUMNS = "f.customer_id AS of_customer_id, f.alert_window, f.time_zone, f.usd_cents"
_STANDING = "f.budget_id, f.limit_usd_cents, f.held_usd_cents, f.starts_at, f.resets_at"
_OWN_COLUMNS: Mapping[AlertKind, str] = {
    AlertKind.BUDGET: f"{_COLUMNS}, {_STANDING}",
    AlertKind.BALANCE_BELOW: f"{_COLUMNS}, f.limited_usd_cents, f.held_usd_cents, f.count AS counted",
}
_FIGURE = (
    f"{_COLUMNS}, f.before_usd_cents, f.estimated_usd_cents, f.count AS counted, f.since, f.reconciliation_id"
)
# A customer's own alerts are found by its id. Shared alerts are few, and are compared with every figure.
_SHARED = f"SELECT * FROM alerts a WHERE {_IN_FORCE} AND a.customer_id IS NULL"
_ALERTS_OF_FIGURE = (
    f"alerts a ON a.customer_id = f.customer_id AND {_IN_FORCE}",
    "shared a ON a.scope = CASE WHEN f.customer_id = '' THEN 'deployment' ELSE 'each_customer' END",
)


def _crossings(
    connection: Connection, kind: AlertKind, figures: Figures, now: datetime, limit: int
) -> Sequence[Crossing]:
    reached = [
        f"""
        SELECT {_OWN_COLUMNS.get(kind, _FIGURE)}, {ALERT_ROW}, t.threshold
        FROM figures f JOIN {joined} CROSS JOIN LATERAL unnest(a.thresholds) AS t (threshold)
        WHERE {_REACHED[kind]}
          AND NOT EXISTS (
              SELECT FROM alert_occurrences o
              WHERE o.customer_id = f.customer_id AND o.alert_id = a.alert_id AND o.version = a.version
                AND o.alert_window = f.alert_window AND o.threshold = t.threshold)
        """
        for joined in _ALERTS_OF_FIGURE
    ]
    query = f"""
        WITH figures AS MATERIALIZED ({figures.query}), shared AS MATERIALIZED ({_SHARED})
        {" UNION ALL ".join(reached)} LIMIT :limit
    """
    parameters = {**figures.parameters, "kind": kind.value, "now": now, "limit": limit}
    alerts: dict[tuple[str, int], Alert] = {}
    found = []
    for row in connection.execute(text(query), parameters):
        alert = alerts.get((row.alert_id, row.version))
        if alert is None:
            alert = alerts[row.alert_id, row.version] = alert_of_row(row)
        found.append(_crossing(row, alert, kind, figures))
    return found


def _crossing(row: Any, alert: Alert, kind: AlertKind, figures: Figures) -> Crossing:
    return Crossing(
        alert=alert,
        customer_id=row.of_customer_id,
        window=_window(row, kind, figures),
        time_zone=row.time_zone,
        threshold=row.threshold,
        measured=_measured(row, kind),
    )


def _window(row: Any, kind: AlertKind, figures: Figures) -> Window | OpenWindow:
    if kind is AlertKind.BALANCE_BELOW or (kind is AlertKind.BUDGET and row.resets_at is None):
        return OpenWindow(key=row.alert_window)
    if kind is AlertKind.BUDGET:
        return Window(key=row.alert_window, starts_at=row.starts_at, ends_at=row.resets_at)
    return figures.windows[row.time_zone, row.alert_window]


def _measured(row: Any, kind: AlertKind) -> Measured:
    if kind is AlertKind.BUDGET:
        return Measured(usd_cents=row.usd_cents, standing=_standing(row))
    if kind is AlertKind.BALANCE_BELOW:
        return Measured(
            usd_cents=row.usd_cents,
            limited_usd_cents=row.limited_usd_cents,
            held_usd_cents=row.held_usd_cents,
            count=row.counted,
        )
    return Measured(
        usd_cents=row.usd_cents,
        before_usd_cents=row.before_usd_cents,
        estimated_usd_cents=row.estimated_usd_cents,
        count=row.counted,
        since=row.since,
        reconciliation_id=row.reconciliation_id,
    )


def _standing(row: Any) -> Standing:
    return Standing(
        budget_id=row.budget_id,
        limit_usd_cents=row.limit_usd_cents,
        spent_usd_cents=row.usd_cents,
        held_usd_cents=row.held_usd_cents,
        starts_at=row.starts_at,
        resets_at=row.resets_at,
    )


def find_exhausted(connection: Connection, *, now: datetime, limit: int) -> Sequence[ExhaustedBudget]:
    """Up to `limit` budgets of which all is spent, and that were not announced yet for their window and limit."""
    figures = budget_windows(now=now, customers=None, deployment=True)
    query = f"""
        WITH figures AS MATERIALIZED ({figures.query})
        SELECT {_OWN_COLUMNS[AlertKind.BUDGET]}, f.action
        FROM figures f CROSS JOIN (VALUES (100)) AS t (threshold)
        WHERE {_REACHED[AlertKind.BUDGET]} AND NOT EXISTS (
            SELECT FROM exhausted_budgets e
            WHERE e.customer_id = f.customer_id AND e.alert_window = f.alert_window)
        LIMIT :limit
    """
    return [
        ExhaustedBudget(
            customer_id=row.of_customer_id,
            alert_window=row.alert_window,
            action=BudgetAction(row.action),
            standing=_standing(row),
        )
        for row in connection.execute(text(query), {**figures.parameters, "limit": limit})
    ]

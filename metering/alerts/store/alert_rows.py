"""Rows of `alerts` as records."""

from typing import Any

from metering.alerts.alerts import Alert, AlertKind, AlertScope, AlertTerms

ALERT_ROW = """
    a.alert_id, a.version, a.kind, a.scope, a.customer_id, a.name, a.thresholds, a.budget_usd_cents,
    a.floor_usd_cents, a.trailing_days, a.enabled, a.created_by, a.created_at, a.changed_at
"""


def alert_of_row(row: Any) -> Alert:
    """The alert that a row with `ALERT_ROW` holds."""
    return Alert(
        alert_id=row.alert_id,
        version=row.version,
        name=row.name,
        terms=AlertTerms(
            kind=AlertKind(row.kind),
            scope=AlertScope(row.scope),
            customer_id=row.customer_id,
            thresholds=tuple(row.thresholds),
            budget_usd_cents=row.budget_usd_cents,
            floor_usd_cents=row.floor_usd_cents,
            trailing_days=row.trailing_days,
        ),
        enabled=row.enabled,
        created_by=row.created_by,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )

"""SQL that writes which exhausted budgets were announced; a key allows each once for a window and limit."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from metering.alerts.budget_messages import ExhaustedBudget
from metering.db.rows import json_rows

_ADD = text(
    """
    INSERT INTO exhausted_budgets (customer_id, alert_window, resets_at, exhausted_at)
    SELECT customer_id, alert_window, resets_at, :now FROM json_to_recordset(CAST(:rows AS json))
         AS e (customer_id text, alert_window text, resets_at timestamptz)
    ORDER BY customer_id, alert_window
    ON CONFLICT DO NOTHING RETURNING customer_id, alert_window
    """
)


def add_exhausted(
    connection: Connection, exhausted: Sequence[ExhaustedBudget], *, now: datetime
) -> list[ExhaustedBudget]:
    """Store exhausted budgets; returns those that are new."""
    if not exhausted:
        return []
    rows = json_rows(
        {
            "customer_id": each.customer_id,
            "alert_window": each.alert_window,
            "resets_at": each.standing.resets_at,
        }
        for each in exhausted
    )
    new = {(row.customer_id, row.alert_window) for row in connection.execute(_ADD, {"rows": rows, "now": now})}
    return [each for each in exhausted if (each.customer_id, each.alert_window) in new]


_PRUNE = text(
    """
    DELETE FROM exhausted_budgets WHERE (customer_id, alert_window) IN (
        SELECT customer_id, alert_window FROM exhausted_budgets WHERE resets_at < :before
        ORDER BY resets_at LIMIT :limit)
    """
)


def prune_exhausted(connection: Connection, *, before: datetime, limit: int) -> int:
    """Remove up to `limit` of windows that ended before a time; returns how many. All time does not end."""
    return connection.execute(_PRUNE, {"before": before, "limit": limit}).rowcount

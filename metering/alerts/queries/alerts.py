"""Lists of alerts and of their occurrences, page by page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, TextClause, text

from metering.alerts.alerts import Alert
from metering.alerts.store.alerts import ALERT_ROW, alert_of_row


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceView:
    """An occurrence with the data of its message; `customer_id` is DEPLOYMENT when it is not one customer's."""

    occurrence_id: str
    message_id: str
    alert_id: str
    kind: str
    customer_id: str
    alert_window: str
    threshold: Decimal
    occurred_at: datetime
    data: Mapping[str, Any]


_ALERTS = text(
    f"""
    SELECT {ALERT_ROW} FROM alerts a
    WHERE a.deleted_at IS NULL AND (CAST(:customer_id AS text) IS NULL OR a.customer_id = :customer_id)
      AND (CAST(:kind AS text) IS NULL OR a.kind = :kind) AND a.alert_id > :after
    ORDER BY a.alert_id LIMIT :limit
    """
)


def list_alerts(
    connection: Connection, *, customer_id: str | None, kind: str | None, after: str, limit: int
) -> Sequence[Alert]:
    """Alerts after the id `after`, by id; only one customer's own alerts when `customer_id` is given."""
    parameters = {"customer_id": customer_id, "kind": kind, "after": after, "limit": limit}
    return [alert_of_row(row) for row in connection.execute(_ALERTS, parameters)]


_ONE = text(f"SELECT {ALERT_ROW} FROM alerts a WHERE a.alert_id = :alert_id AND a.deleted_at IS NULL")


def find_alert(connection: Connection, *, alert_id: str) -> Alert | None:
    """One alert, or None."""
    row = connection.execute(_ONE, {"alert_id": alert_id}).first()
    return alert_of_row(row) if row else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OccurrenceFilter:
    """Filters of occurrences; None does not filter. `alerts_of` keeps only those of this customer's own alerts."""

    customer_id: str | None = None
    alert_id: str | None = None
    kind: str | None = None
    alerts_of: str | None = None


def _occurrences(after: str, order: str) -> TextClause:
    return text(
        f"""
        SELECT o.occurrence_id, o.message_id, o.alert_id, o.kind, o.customer_id, o.alert_window, o.threshold,
               o.occurred_at, o.data
        FROM alert_occurrences o
        WHERE (CAST(:customer_id AS text) IS NULL OR o.customer_id = :customer_id)
          AND (CAST(:alert_id AS text) IS NULL OR o.alert_id = :alert_id)
          AND (CAST(:kind AS text) IS NULL OR o.kind = :kind)
          AND (CAST(:alerts_of AS text) IS NULL OR EXISTS (
              SELECT FROM alerts a WHERE a.alert_id = o.alert_id AND a.customer_id = :alerts_of))
          AND (CAST(:before AS timestamptz) IS NULL
               OR (o.occurred_at, o.occurrence_id) {after} (:before, :before_id))
        ORDER BY o.occurred_at {order}, o.occurrence_id {order} LIMIT :limit
        """
    )


_NEWEST, _OLDEST = _occurrences("<", "DESC"), _occurrences(">", "ASC")


def list_occurrences(
    connection: Connection,
    *,
    where: OccurrenceFilter,
    before: tuple[datetime, str] | None,
    limit: int,
    oldest_first: bool = False,
) -> Sequence[OccurrenceView]:
    """Occurrences after the position (occurred_at, occurrence_id), the newest first or the oldest."""
    at, before_id = before or (None, None)
    parameters = {
        "customer_id": where.customer_id,
        "alert_id": where.alert_id,
        "kind": where.kind,
        "alerts_of": where.alerts_of,
        "before": at,
        "before_id": before_id,
        "limit": limit,
    }
    statement = _OLDEST if oldest_first else _NEWEST
    return [OccurrenceView(**row._mapping) for row in connection.execute(statement, parameters)]

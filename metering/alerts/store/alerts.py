"""SQL that writes alerts, when each kind of message is next due, and occurrences, which a key allows once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from metering.alerts.alerts import Alert, AlertKind, AlertScope, AlertTerms
from metering.alerts.messages import Occurrence
from metering.alerts.windows import Window
from metering.core.errors import MeteringError
from metering.db.locks import Lock, take
from metering.db.rows import json_rows

ALERT_ROW = """
    a.alert_id, a.version, a.kind, a.scope, a.customer_id, a.name, a.thresholds, a.budget_usd_cents,
    a.floor_usd_cents, a.trailing_days, a.enabled, a.created_by, a.created_at, a.changed_at
"""


def alert_of_row(row: Any) -> Alert:
    """The alert in a row of `ALERT_ROW`."""
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


class UnknownAlertError(MeteringError):
    """There is no such alert."""


_COUNT = text(
    """
    SELECT count(*) FROM alerts
    WHERE deleted_at IS NULL AND customer_id IS NOT DISTINCT FROM CAST(:customer_id AS text)
    """
)


def count_alerts(connection: Connection, *, customer_id: str | None) -> int:
    """The number of a customer's alerts, or of shared alerts for None; blocks adding others until this commits."""
    take(connection, Lock.NEW_ALERT)
    count: int = connection.execute(_COUNT, {"customer_id": customer_id}).scalar_one()
    return count


_ADD = text(
    """
    INSERT INTO alerts (alert_id, version, kind, scope, customer_id, name, thresholds, budget_usd_cents,
        floor_usd_cents, trailing_days, enabled, created_by, created_at, changed_at)
    VALUES (:alert_id, :version, :kind, :scope, :customer_id, :name, CAST(:thresholds AS numeric[]),
        :budget_usd_cents, :floor_usd_cents, :trailing_days, :enabled, :created_by, :created_at, :changed_at)
    """
)


def add_alert(connection: Connection, alert: Alert) -> None:
    """Store a new alert."""
    connection.execute(_ADD, _parameters(alert))


_ONE = text(f"SELECT {ALERT_ROW} FROM alerts a WHERE a.alert_id = :alert_id AND a.deleted_at IS NULL FOR UPDATE")


def lock_alert(connection: Connection, *, alert_id: str) -> Alert:
    """An alert, locked against changes until this commits.

    Raises:
        UnknownAlertError: there is no such alert.
    """
    row = connection.execute(_ONE, {"alert_id": alert_id}).first()
    if row is None:
        raise UnknownAlertError(f"there is no alert {alert_id!r}")
    return alert_of_row(row)


_CHANGE = text(
    """
    UPDATE alerts SET version = :version, name = :name, thresholds = CAST(:thresholds AS numeric[]),
        budget_usd_cents = :budget_usd_cents, floor_usd_cents = :floor_usd_cents, trailing_days = :trailing_days,
        enabled = :enabled, changed_at = :changed_at
    WHERE alert_id = :alert_id
    """
)


def store_alert(connection: Connection, alert: Alert) -> None:
    """Store the fields of an alert that can change."""
    connection.execute(_CHANGE, _parameters(alert))


_MARK_DELETED = text("UPDATE alerts SET deleted_at = :now WHERE alert_id = :alert_id")


def mark_alert_deleted(connection: Connection, *, alert_id: str, now: datetime) -> None:
    """Mark an alert as deleted; its occurrences are kept."""
    connection.execute(_MARK_DELETED, {"alert_id": alert_id, "now": now})


def _parameters(alert: Alert) -> dict[str, object]:
    terms = alert.terms
    return {
        "alert_id": alert.alert_id,
        "version": alert.version,
        "kind": terms.kind.value,
        "scope": terms.scope.value,
        "customer_id": terms.customer_id,
        "name": alert.name,
        "thresholds": list(terms.thresholds),
        "budget_usd_cents": terms.budget_usd_cents,
        "floor_usd_cents": terms.floor_usd_cents,
        "trailing_days": terms.trailing_days,
        "enabled": alert.enabled,
        "created_by": alert.created_by,
        "created_at": alert.created_at,
        "changed_at": alert.changed_at,
    }


# Without this, the sums of all customers would be sorted on disk.
_WORK_MEM = text("SELECT set_config('work_mem', '64MB', true)")
_CLAIM = text("SELECT FROM alert_evaluations WHERE kind = :kind AND due_at <= :now FOR UPDATE SKIP LOCKED")
_POSTPONE = text("UPDATE alert_evaluations SET due_at = :due_at, evaluated_at = :now WHERE kind = :kind")


def claim_evaluation(connection: Connection, *, kind: str, now: datetime) -> bool:
    """Claim the evaluation of a kind for this transaction; False when it is not due or already claimed.

    `kind` is a kind of alert, or the type of messages that no alert makes.
    """
    if connection.execute(_CLAIM, {"kind": kind, "now": now}).first() is None:
        return False
    connection.execute(_WORK_MEM)
    return True


def postpone_evaluation(connection: Connection, *, kind: str, due_at: datetime, now: datetime) -> None:
    """Record that a kind was evaluated, and set its next evaluation to `due_at`."""
    connection.execute(_POSTPONE, {"kind": kind, "due_at": due_at, "now": now})


# In the order of the key, so that two transactions that add the same occurrences cannot deadlock.
_ADD_OCCURRENCES = text(
    """
    INSERT INTO alert_occurrences (customer_id, alert_id, version, alert_window, threshold, occurrence_id,
        message_id, kind, occurred_at, window_has_end, data)
    SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS o (customer_id text, alert_id text, version integer,
        alert_window text, threshold numeric, occurrence_id text, message_id text, kind text,
        occurred_at timestamptz, window_has_end boolean, data json)
    ORDER BY customer_id, alert_id, version, alert_window, threshold
    ON CONFLICT DO NOTHING RETURNING occurrence_id
    """
)


def add_occurrences(connection: Connection, occurrences: Sequence[Occurrence]) -> list[Occurrence]:
    """Store occurrences; returns those that are new."""
    if not occurrences:
        return []
    rows = json_rows(_occurrence_row(each) for each in occurrences)
    new = set(connection.execute(_ADD_OCCURRENCES, {"rows": rows}).scalars())
    return [each for each in occurrences if each.occurrence_id in new]


def _occurrence_row(occurrence: Occurrence) -> dict[str, object]:
    crossing = occurrence.crossing
    return {
        "customer_id": crossing.customer_id,
        "alert_id": crossing.alert.alert_id,
        "version": crossing.alert.version,
        "alert_window": crossing.window.key,
        "threshold": crossing.threshold,
        "occurrence_id": occurrence.occurrence_id,
        "message_id": occurrence.message_id,
        "kind": crossing.alert.terms.kind.value,
        "occurred_at": occurrence.occurred_at,
        "window_has_end": isinstance(crossing.window, Window),
        "data": occurrence.data,
    }


# Without its occurrence a threshold that is still reached would fire again. So in a window without an end the
# occurrence stays until the alert is changed or deleted, or, for a balance, until one of a later window.
_PRUNE = text(
    """
    DELETE FROM alert_occurrences WHERE occurrence_id IN (
        SELECT o.occurrence_id FROM alert_occurrences o
        WHERE o.occurred_at < :before AND (
            o.window_has_end
            OR NOT EXISTS (SELECT FROM alerts a WHERE a.alert_id = o.alert_id AND a.version = o.version
                           AND a.deleted_at IS NULL)
            OR o.kind = 'balance_below' AND EXISTS (
                SELECT FROM alert_occurrences later
                WHERE later.customer_id = o.customer_id AND later.alert_id = o.alert_id
                  AND later.version = o.version AND later.threshold = o.threshold
                  AND later.occurred_at > o.occurred_at))
        ORDER BY o.occurred_at LIMIT :limit)
    """
)


def prune_occurrences(connection: Connection, *, before: datetime, limit: int) -> int:
    """Remove up to `limit` occurrences from before a time that cannot fire again; returns how many."""
    return connection.execute(_PRUNE, {"before": before, "limit": limit}).rowcount

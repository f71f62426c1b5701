"""Alerts, the turn of each kind to be evaluated, and their occurrences, of which a key allows each once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, text, update

from metering.alerts.alerts import Alert, AlertKind, AlertScope, AlertTerms
from metering.alerts.messages import Occurrence
from metering.core.errors import MeteringError
from metering.db.rows import json_rows
from metering.db.tables import alerts

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


# Any numbers: they only have to be the same in every process.
_LOCK, _PRUNE_LOCK = 5_206_841_180, 5_206_841_182


class UnknownAlertError(MeteringError):
    """There is no such alert."""


_COUNT = text(
    """
    SELECT count(*) FROM alerts
    WHERE deleted_at IS NULL AND customer_id IS NOT DISTINCT FROM CAST(:customer_id AS text)
    """
)


def count_alerts(connection: Connection, *, customer_id: str | None) -> int:
    """How many alerts a customer has, or for None those of no customer; nobody adds one until this commits."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    count: int = connection.execute(_COUNT, {"customer_id": customer_id}).scalar_one()
    return count


def add_alert(connection: Connection, alert: Alert) -> None:
    """Store a new alert."""
    connection.execute(
        insert(alerts).values(
            alert_id=alert.alert_id,
            kind=alert.terms.kind.value,
            scope=alert.terms.scope.value,
            customer_id=alert.terms.customer_id,
            created_by=alert.created_by,
            created_at=alert.created_at,
            **_changeable(alert),
        )
    )


_ONE = text(f"SELECT {ALERT_ROW} FROM alerts a WHERE a.alert_id = :alert_id AND a.deleted_at IS NULL FOR UPDATE")


def lock_alert(connection: Connection, *, alert_id: str) -> Alert:
    """An alert that nobody else changes until this commits.

    Raises:
        UnknownAlertError: there is none.
    """
    row = connection.execute(_ONE, {"alert_id": alert_id}).first()
    if row is None:
        raise UnknownAlertError(f"there is no alert {alert_id!r}")
    return alert_of_row(row)


def store_alert(connection: Connection, alert: Alert) -> None:
    """Store what of an alert can change."""
    connection.execute(update(alerts).where(alerts.c.alert_id == alert.alert_id).values(**_changeable(alert)))


def mark_alert_deleted(connection: Connection, *, alert_id: str, now: datetime) -> None:
    """End an alert; what occurred is kept."""
    connection.execute(update(alerts).where(alerts.c.alert_id == alert_id).values(deleted_at=now))


def _changeable(alert: Alert) -> dict[str, object]:
    return {
        "version": alert.version,
        "name": alert.name,
        "thresholds": list(alert.terms.thresholds),
        "budget_usd_cents": alert.terms.budget_usd_cents,
        "floor_usd_cents": alert.terms.floor_usd_cents,
        "trailing_days": alert.terms.trailing_days,
        "enabled": alert.enabled,
        "changed_at": alert.changed_at,
    }


# What is summed for all customers at once would else be sorted on disk.
_ROOM = text("SELECT set_config('work_mem', '64MB', true)")
_CLAIM = text("SELECT FROM alert_evaluations WHERE kind = :kind AND due_at <= :now FOR UPDATE SKIP LOCKED")
_POSTPONE = text("UPDATE alert_evaluations SET due_at = :due_at, evaluated_at = :now WHERE kind = :kind")


def claim_evaluation(connection: Connection, *, kind: AlertKind, now: datetime) -> bool:
    """Whether it is this transaction's turn to evaluate a kind: it is due, and nobody else does it."""
    if connection.execute(_CLAIM, {"kind": kind.value, "now": now}).first() is None:
        return False
    connection.execute(_ROOM)
    return True


def postpone_evaluation(connection: Connection, *, kind: AlertKind, due_at: datetime, now: datetime) -> None:
    """A kind was evaluated, and is again at `due_at`."""
    connection.execute(_POSTPONE, {"kind": kind.value, "due_at": due_at, "now": now})


# In the order of the key, so that two who add the same wait for each other and never both for both.
_ADD_OCCURRENCES = text(
    """
    INSERT INTO alert_occurrences (customer_id, alert_id, version, alert_window, threshold, occurrence_id,
        message_id, kind, occurred_at, data)
    SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS o (customer_id text, alert_id text, version integer,
        alert_window text, threshold numeric, occurrence_id text, message_id text, kind text,
        occurred_at timestamptz, data json)
    ORDER BY customer_id, alert_id, version, alert_window, threshold
    ON CONFLICT DO NOTHING RETURNING occurrence_id
    """
)


def add_occurrences(connection: Connection, occurrences: Sequence[Occurrence]) -> list[Occurrence]:
    """Keep what occurred; returns what nobody has kept before."""
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
        "data": occurrence.data,
    }


def claim_pruning(connection: Connection) -> bool:
    """Whether it is this transaction's turn to remove what is past its retention; nobody else does meanwhile."""
    turn = text("SELECT pg_try_advisory_xact_lock(:lock)")
    taken: bool = connection.execute(turn, {"lock": _PRUNE_LOCK}).scalar_one()
    return taken


_PRUNE = text(
    """
    DELETE FROM alert_occurrences WHERE occurrence_id IN (
        SELECT occurrence_id FROM alert_occurrences WHERE occurred_at < :before
        ORDER BY occurred_at LIMIT :limit)
    """
)


def prune_occurrences(connection: Connection, *, before: datetime, limit: int) -> int:
    """Remove up to `limit` of those that occurred longer ago; returns how many."""
    return connection.execute(_PRUNE, {"before": before, "limit": limit}).rowcount

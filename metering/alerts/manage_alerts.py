"""Create, change and delete alerts. An alert whose terms change can fire again in the current window."""

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine

from metering.access.actors import Author
from metering.access.store.audit_log import State, log_action
from metering.alerts.alerts import (
    DEFAULT_TRAILING_DAYS,
    MAX_ALERTS_PER_CUSTOMER,
    MAX_SHARED_ALERTS,
    Alert,
    AlertKind,
    AlertTerms,
    check_name,
    check_terms,
)
from metering.alerts.store.alerts import add_alert, count_alerts, lock_alert, mark_alert_deleted, store_alert
from metering.core.errors import MeteringError
from metering.customers.store import UnknownCustomerError, is_customer
from metering.db.engine import transaction

ValueT = TypeVar("ValueT")

_log = partial(log_action, kind="alert")


class TooManyAlertsError(MeteringError):
    """The limit on the number of alerts is reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChanges:
    """Changes to an alert; None keeps a value."""

    name: str | None = None
    thresholds: Sequence[Decimal] | None = None
    budget_usd_cents: Decimal | None = None
    floor_usd_cents: Decimal | None = None
    trailing_days: int | None = None
    enabled: bool | None = None


def create_alert(*, engine: Engine, name: str, terms: AlertTerms, created_by: Author, now: datetime) -> Alert:
    """Store a new alert. It fires at the next evaluation if a threshold is already reached.

    Raises:
        InvalidAlertError: the name or the terms are invalid.
        UnknownCustomerError: its customer does not exist.
        TooManyAlertsError: the limit for this customer, or for shared alerts, is reached.
    """
    if terms.kind is AlertKind.DAILY_CHANGE and terms.trailing_days is None:
        terms = replace(terms, trailing_days=DEFAULT_TRAILING_DAYS)
    check_name(name)
    check_terms(terms)
    alert = Alert(
        alert_id=f"alr_{secrets.token_hex(8)}",
        version=1,
        name=name,
        terms=terms,
        enabled=True,
        created_by=str(created_by),
        created_at=now,
        changed_at=now,
    )
    with transaction(engine) as connection:
        _check_count(connection, terms.customer_id)
        add_alert(connection, alert)
        _log(connection, action="create", subject=alert.alert_id, by=created_by, now=now, after=_state(alert))
    return alert


def change_alert(
    *, engine: Engine, alert_id: str, changes: AlertChanges, now: datetime, by: Author = "metering"
) -> Alert:
    """Change an alert. New terms make a new version, which has not fired in any window.

    Raises:
        UnknownAlertError: there is no such alert.
        InvalidAlertError: the new name or terms are invalid.
    """
    with transaction(engine) as connection:
        alert = lock_alert(connection, alert_id=alert_id)
        name, terms = _changed(changes.name, alert.name), _changed_terms(alert.terms, changes)
        check_name(name)
        check_terms(terms)
        changed = replace(
            alert,
            name=name,
            enabled=_changed(changes.enabled, alert.enabled),
            terms=terms,
            version=alert.version if terms == alert.terms else alert.version + 1,
            changed_at=now,
        )
        store_alert(connection, changed)
        _log(
            connection,
            action="change",
            subject=alert_id,
            by=by,
            now=now,
            before=_state(alert),
            after=_state(changed),
        )
    return changed


def delete_alert(*, engine: Engine, alert_id: str, now: datetime, by: Author = "metering") -> None:
    """Delete an alert. Its occurrences stay in the list.

    Raises:
        UnknownAlertError: there is no such alert.
    """
    with transaction(engine) as connection:
        alert = lock_alert(connection, alert_id=alert_id)
        mark_alert_deleted(connection, alert_id=alert_id, now=now)
        _log(connection, action="delete", subject=alert_id, by=by, now=now, before=_state(alert))


def _state(alert: Alert) -> State:
    return {"name": alert.name, "enabled": alert.enabled, "version": alert.version, **asdict(alert.terms)}


def _changed_terms(terms: AlertTerms, changes: AlertChanges) -> AlertTerms:
    return replace(
        terms,
        thresholds=tuple(_changed(changes.thresholds, terms.thresholds)),
        budget_usd_cents=_changed(changes.budget_usd_cents, terms.budget_usd_cents),
        floor_usd_cents=_changed(changes.floor_usd_cents, terms.floor_usd_cents),
        trailing_days=_changed(changes.trailing_days, terms.trailing_days),
    )


def _changed(changed: ValueT | None, before: ValueT) -> ValueT:
    return before if changed is None else changed


def _check_count(connection: Connection, customer_id: str | None) -> None:
    if customer_id is not None and not is_customer(connection, customer_id=customer_id):
        raise UnknownCustomerError(f"customer_id: there is no customer {customer_id!r}")
    most = MAX_SHARED_ALERTS if customer_id is None else MAX_ALERTS_PER_CUSTOMER
    if count_alerts(connection, customer_id=customer_id) >= most:
        what = "shared alerts" if customer_id is None else f"alerts for customer {customer_id!r}"
        raise TooManyAlertsError(f"there are already {most} {what}: change or delete one")

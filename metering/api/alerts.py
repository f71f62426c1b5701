"""`/v1/alerts` and `/v1/alert-occurrences`: what is watched, and what came of it."""

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from metering.alerts.alerts import AlertKind, AlertScope, AlertTerms
from metering.alerts.manage_alerts import AlertChanges, change_alert, create_alert, delete_alert
from metering.alerts.queries.alerts import OccurrenceFilter, find_alert, list_alerts, list_occurrences
from metering.api.alert_shapes import alert_shape, occurrence_shape
from metering.api.auth import Admin, Reader, require_customer
from metering.api.errors import NotFoundError
from metering.api.fields import Id, Name
from metering.api.paging import Cursor, Limit, page_of
from metering.api.reading import Db, TheService
from metering.api.shapes import Page
from metering.api.stream_paths import text_of
from metering.core.clock import utc_now
from metering.core.cursors import decode_cursor, moment_in

router = APIRouter(prefix="/v1", tags=["alerts"])

Threshold = Annotated[Decimal, Field(max_digits=24, decimal_places=6, allow_inf_nan=False)]
Cents = Annotated[Decimal, Field(max_digits=30, decimal_places=12, allow_inf_nan=False)]


class AlertInput(BaseModel):
    """A new alert. Thresholds go by its kind: percents of the budget, percents, percents, cents, hours."""

    name: Name
    kind: AlertKind
    scope: AlertScope
    customer_id: Id | None = None
    thresholds: list[Threshold]
    budget_usd_cents: Cents | None = None
    floor_usd_cents: Cents | None = None
    trailing_days: int | None = None


class AlertPatch(BaseModel):
    """What is to change of an alert; what is left out stays. Other terms arm it anew."""

    name: Name | None = None
    thresholds: list[Threshold] | None = None
    budget_usd_cents: Cents | None = None
    floor_usd_cents: Cents | None = None
    trailing_days: int | None = None
    enabled: bool | None = None


@router.get("/alerts")
def read_alerts(
    key: Reader,
    connection: Db,
    customer_id: str | None = None,
    kind: AlertKind | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page:
    """Alerts by id. A key that is bound to a customer reads that customer's own."""
    position = decode_cursor(cursor, length=1)
    found = list_alerts(
        connection,
        customer_id=require_customer(key, text_of(customer_id)),
        kind=kind.value if kind else None,
        after=position[0] if position else "",
        limit=limit + 1,
    )
    return page_of(found, limit=limit, shape=alert_shape, position=lambda alert: [alert.alert_id])


@router.post("/alerts", status_code=201)
def write_alert(given: AlertInput, key: Admin, service: TheService) -> dict[str, Any]:
    """Watch something from now on. Thresholds that are reached already occur at once."""
    terms = AlertTerms(
        kind=given.kind,
        scope=given.scope,
        customer_id=given.customer_id,
        thresholds=tuple(given.thresholds),
        budget_usd_cents=given.budget_usd_cents,
        floor_usd_cents=given.floor_usd_cents,
        trailing_days=given.trailing_days,
    )
    alert = create_alert(
        engine=service.engine, name=given.name, terms=terms, created_by=f"key {key.key_id}", now=utc_now()
    )
    return alert_shape(alert)


@router.get("/alerts/{alert_id}")
def read_alert(alert_id: Id, key: Reader, connection: Db) -> dict[str, Any]:
    """One alert."""
    alert = find_alert(connection, alert_id=alert_id)
    if alert is None or (key.customer_id is not None and key.customer_id != alert.terms.customer_id):
        raise NotFoundError(f"there is no alert {alert_id!r}")
    return alert_shape(alert)


@router.patch("/alerts/{alert_id}")
def patch_alert(alert_id: Id, given: AlertPatch, _: Admin, service: TheService) -> dict[str, Any]:
    """Change an alert, or switch it off and on."""
    changes = AlertChanges(
        name=given.name,
        thresholds=given.thresholds,
        budget_usd_cents=given.budget_usd_cents,
        floor_usd_cents=given.floor_usd_cents,
        trailing_days=given.trailing_days,
        enabled=given.enabled,
    )
    alert = change_alert(engine=service.engine, alert_id=alert_id, changes=changes, now=utc_now())
    return alert_shape(alert)


@router.delete("/alerts/{alert_id}", status_code=204)
def remove_alert(alert_id: Id, _: Admin, service: TheService) -> None:
    """End an alert; what occurred stays in the list of occurrences."""
    delete_alert(engine=service.engine, alert_id=alert_id, now=utc_now())


@router.get("/alert-occurrences")
def read_occurrences(
    key: Reader,
    connection: Db,
    customer_id: str | None = None,
    alert_id: str | None = None,
    kind: AlertKind | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page:
    """What occurred, the newest first. A key that is bound to a customer reads that of its own alerts."""
    position = decode_cursor(cursor, length=2)
    where = OccurrenceFilter(
        customer_id=require_customer(key, text_of(customer_id)),
        alert_id=text_of(alert_id),
        kind=kind.value if kind else None,
        alerts_of=key.customer_id,
    )
    before = (moment_in(position[0]), position[1]) if position else None
    found = list_occurrences(connection, where=where, before=before, limit=limit + 1)
    return page_of(
        found,
        limit=limit,
        shape=occurrence_shape,
        position=lambda each: [each.occurred_at.isoformat(), each.occurrence_id],
    )

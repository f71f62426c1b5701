"""`/v1/alerts` and `/v1/alert-occurrences`: what is watched, and when a threshold was reached."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field, StrictBool
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.alerts.alerts import (
    DEPLOYMENT,
    MAX_THRESHOLDS,
    UNITS,
    AlertKind,
    AlertScope,
    AlertTerms,
    InvalidAlertError,
)
from metering.alerts.alerts import Alert as StoredAlert
from metering.alerts.manage_alerts import (
    AlertChanges,
    TooManyAlertsError,
    change_alert,
    create_alert,
    delete_alert,
)
from metering.alerts.queries.alerts import (
    OccurrenceFilter,
    OccurrenceView,
    find_alert,
    list_alerts,
    list_occurrences,
)
from metering.alerts.store.alerts import UnknownAlertError
from metering.api.answers import Amount, BookedBy, Cents, Time, described, time_text
from metering.api.auth import By, Caller, needs, require_customer
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import (
    WHOLE_NUMBER,
    CentsInput,
    CustomerFilter,
    Db,
    Id,
    Input,
    Name,
    PlainNumber,
    Text,
    TheService,
    decimal_schema,
)
from metering.api.problems import NotFoundError
from metering.api.routes import raises, v1_router
from metering.core.clock import utc_now
from metering.core.cursors import TEXT, TIME, decode_cursor, parse_time, time_part
from metering.core.money import cents_text
from metering.customers.store import UnknownCustomerError

router = v1_router("alerts")

ThresholdInput = Annotated[
    Decimal,
    PlainNumber,
    Field(max_digits=24, decimal_places=6, allow_inf_nan=False),
    decimal_schema(example="80", pattern=r"^-?[0-9]{1,18}(\.[0-9]{1,6})?$"),
]
AlertPath = Annotated[Id, Path(description="The alert.", examples=["alr_9f86d081884c7d65"])]
KindFilter = Annotated[AlertKind | None, Query(description="Only alerts of this kind.")]

_NAME = Field(description="The name of the alert, for people.", examples=["Budget"])
_THRESHOLDS = Field(
    json_schema_extra={"minItems": 1, "maxItems": MAX_THRESHOLDS},
    description="1 to 10 thresholds, as strings: percent of the budget (spend), percent of the limit (budget), "
    "percent (daily_change, estimated_share), cents (drift, price_change, balance_below), hours (backlog_age), "
    "streams (inconsistent_usage).",
)
_BUDGET = Field(description="The budget that thresholds of kind spend are percents of, in cents, as a string.")
_FLOOR = Field(
    description="Below this amount daily_change and estimated_share do not fire, in cents, as a string."
)
_TRAILING = Field(description="How many days before it a day is compared with (daily_change). Default: 7.")


class Alert(TypedDict):
    """An alert; fields that its kind does not have are null."""

    alert_id: Annotated[str, described("The id of the alert.", example="alr_9f86d081884c7d65")]
    version: Annotated[int, described("Grows when its terms change, which arms it again.", example=1)]
    name: Annotated[str, described("Its name, for people.", example="Budget")]
    kind: Annotated[AlertKind, described("What is watched.")]
    scope: Annotated[AlertScope, described("One customer, each customer, or the whole deployment.")]
    customer_id: Annotated[str | None, described("The customer, with scope customer.", example="acme")]
    thresholds: Annotated[list[Amount], described("Its thresholds, in `unit`.", example=["50", "80"])]
    unit: Annotated[str, described("The unit of the thresholds.", example="percent_of_budget")]
    budget_usd_cents: Annotated[Cents | None, described("The budget (spend).", example="500000")]
    floor_usd_cents: Annotated[Cents | None, described("The least amount (daily_change, estimated_share).")]
    trailing_days: Annotated[int | None, described("The days to compare with (daily_change).")]
    enabled: Annotated[bool, described("Whether it is evaluated.")]
    created_by: BookedBy
    created_at: Annotated[Time, described("When it was created.")]
    changed_at: Annotated[Time, described("When it was last changed.")]


class AlertOccurrence(TypedDict):
    """A threshold that was reached, once in its window."""

    occurrence_id: Annotated[str, described("The id of the occurrence.", example="alo_5d4c0a9b")]
    message_id: Annotated[str, described("The `webhook-id` of its message.", example="msg_5d4c0a9b")]
    alert_id: Annotated[str, described("The alert.", example="alr_9f86d081884c7d65")]
    kind: Annotated[str, described("The kind of the alert.", example="spend")]
    customer_id: Annotated[str | None, described("The customer; null for the whole deployment.", example="acme")]
    window: Annotated[str, described("The window in which it fires once.", example="2026-11")]
    threshold: Annotated[Amount, described("The threshold that was reached.", example="80")]
    occurred_at: Annotated[Time, described("When it was found.")]
    data: Annotated[Mapping[str, Any], described("`data` of the webhook message; docs/alerts.md has its fields.")]


class AlertInput(Input):
    """A new alert."""

    name: Annotated[Name, _NAME]
    kind: Annotated[AlertKind, Field(description="What is watched.")]
    scope: Annotated[AlertScope, Field(description="One customer, each customer, or the whole deployment.")]
    customer_id: Annotated[Id | None, Field(description="The customer, with scope customer.")] = None
    thresholds: Annotated[list[ThresholdInput], _THRESHOLDS]
    budget_usd_cents: Annotated[CentsInput | None, _BUDGET] = None
    floor_usd_cents: Annotated[CentsInput | None, _FLOOR] = None
    trailing_days: Annotated[Annotated[int, WHOLE_NUMBER] | None, _TRAILING] = None


class AlertPatch(Input):
    """The changes to an alert; fields that are left out stay as they are. Changed terms arm it again."""

    name: Annotated[Name | None, _NAME] = None
    thresholds: Annotated[list[ThresholdInput] | None, _THRESHOLDS] = None
    budget_usd_cents: Annotated[CentsInput | None, _BUDGET] = None
    floor_usd_cents: Annotated[CentsInput | None, _FLOOR] = None
    trailing_days: Annotated[Annotated[int, WHOLE_NUMBER] | None, _TRAILING] = None
    enabled: Annotated[StrictBool | None, Field(description="Whether it is evaluated.")] = None


def alert_shape(alert: StoredAlert) -> Alert:
    """An alert; fields that its kind does not have are null."""
    terms = alert.terms
    return {
        "alert_id": alert.alert_id,
        "version": alert.version,
        "name": alert.name,
        "kind": terms.kind,
        "scope": terms.scope,
        "customer_id": terms.customer_id,
        "thresholds": [cents_text(threshold) for threshold in terms.thresholds],
        "unit": UNITS[terms.kind],
        "budget_usd_cents": cents_text(terms.budget_usd_cents) if terms.budget_usd_cents is not None else None,
        "floor_usd_cents": cents_text(terms.floor_usd_cents) if terms.floor_usd_cents is not None else None,
        "trailing_days": terms.trailing_days,
        "enabled": alert.enabled,
        "created_by": alert.created_by,
        "created_at": time_text(alert.created_at),
        "changed_at": time_text(alert.changed_at),
    }


def occurrence_shape(occurrence: OccurrenceView) -> AlertOccurrence:
    """An occurrence, with the content of its message."""
    return {
        "occurrence_id": occurrence.occurrence_id,
        "message_id": occurrence.message_id,
        "alert_id": occurrence.alert_id,
        "kind": occurrence.kind,
        "customer_id": None if occurrence.customer_id == DEPLOYMENT else occurrence.customer_id,
        "window": occurrence.alert_window,
        "threshold": cents_text(occurrence.threshold),
        "occurred_at": time_text(occurrence.occurred_at),
        "data": occurrence.data,
    }


@router.get("/alerts", operation_id="listAlerts", summary="List alerts")
@needs(Scope.ALERTS_READ)
def read_alerts(
    key: Caller,
    connection: Db,
    customer_id: CustomerFilter = None,
    kind: KindFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TEXT)] = None,
) -> Page[Alert]:
    """Alerts by id. A key that is bound to a customer reads only that customer's own alerts."""
    position = decode_cursor(cursor, length=1)
    found = list_alerts(
        connection,
        customer_id=require_customer(key, customer_id),
        kind=kind.value if kind else None,
        after=position[0] if position else "",
        limit=limit + 1,
    )
    return page_of(found, limit=limit, shape=alert_shape, position=lambda alert: [alert.alert_id])


@router.post("/alerts", status_code=201, operation_id="createAlert", summary="Create an alert")
@needs(Scope.ALERTS_WRITE)
@raises(InvalidAlertError, UnknownCustomerError, TooManyAlertsError)
def write_alert(given: AlertInput, by: By, service: TheService) -> Alert:
    """Create an alert. Thresholds that are reached already fire at once."""
    terms = AlertTerms(
        kind=given.kind,
        scope=given.scope,
        customer_id=given.customer_id,
        thresholds=tuple(given.thresholds),
        budget_usd_cents=given.budget_usd_cents,
        floor_usd_cents=given.floor_usd_cents,
        trailing_days=given.trailing_days,
    )
    alert = create_alert(engine=service.engine, name=given.name, terms=terms, created_by=by, now=utc_now())
    return alert_shape(alert)


@router.get("/alerts/{alert_id}", operation_id="getAlert", summary="Get an alert")
@needs(Scope.ALERTS_READ)
@raises(NotFoundError)
def read_alert(alert_id: AlertPath, key: Caller, connection: Db) -> Alert:
    """One alert."""
    alert = find_alert(connection, alert_id=alert_id)
    if alert is None or (key.customer_id is not None and key.customer_id != alert.terms.customer_id):
        raise NotFoundError(f"there is no alert {alert_id!r}")
    return alert_shape(alert)


@router.patch("/alerts/{alert_id}", operation_id="patchAlert", summary="Change an alert")
@needs(Scope.ALERTS_WRITE)
@raises(UnknownAlertError, InvalidAlertError)
def patch_alert(alert_id: AlertPath, given: AlertPatch, by: By, service: TheService) -> Alert:
    """Change an alert, or switch it off and on."""
    changes = AlertChanges(
        name=given.name,
        thresholds=given.thresholds,
        budget_usd_cents=given.budget_usd_cents,
        floor_usd_cents=given.floor_usd_cents,
        trailing_days=given.trailing_days,
        enabled=given.enabled,
    )
    alert = change_alert(engine=service.engine, alert_id=alert_id, changes=changes, by=by, now=utc_now())
    return alert_shape(alert)


@router.delete("/alerts/{alert_id}", status_code=204, operation_id="deleteAlert", summary="Delete an alert")
@needs(Scope.ALERTS_WRITE)
@raises(UnknownAlertError)
def remove_alert(alert_id: AlertPath, by: By, service: TheService) -> None:
    """Delete an alert; its occurrences stay listed."""
    delete_alert(engine=service.engine, alert_id=alert_id, by=by, now=utc_now())


@router.get("/alert-occurrences", operation_id="listAlertOccurrences", summary="List alert occurrences")
@needs(Scope.ALERTS_READ)
def read_occurrences(
    key: Caller,
    connection: Db,
    customer_id: CustomerFilter = None,
    alert_id: Annotated[Text | None, Query(description="Only occurrences of this alert.")] = None,
    kind: KindFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TIME, TEXT)] = None,
) -> Page[AlertOccurrence]:
    """Occurrences, newest first. A key that is bound to a customer reads only those of its own alerts."""
    position = decode_cursor(cursor, length=2)
    where = OccurrenceFilter(
        customer_id=require_customer(key, customer_id),
        alert_id=alert_id,
        kind=kind.value if kind else None,
        alerts_of=key.customer_id,
    )
    before = (parse_time(position[0]), position[1]) if position else None
    found = list_occurrences(connection, where=where, before=before, limit=limit + 1)
    return page_of(
        found,
        limit=limit,
        shape=occurrence_shape,
        position=lambda each: [time_part(each.occurred_at), each.occurrence_id],
    )

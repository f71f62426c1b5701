"""The shapes of alerts, occurrences, webhook endpoints and deliveries."""

from datetime import datetime
from typing import Any

from metering.alerts.alerts import DEPLOYMENT, UNITS, Alert
from metering.alerts.queries.alerts import OccurrenceView
from metering.alerts.store.deliveries import Delivery
from metering.alerts.store.endpoints import Endpoint
from metering.api.shapes import time_text
from metering.core.money import cents_text


def alert_shape(alert: Alert) -> dict[str, Any]:
    """An alert; what its kind does not have is null."""
    terms = alert.terms
    return {
        "alert_id": alert.alert_id,
        "version": alert.version,
        "name": alert.name,
        "kind": terms.kind.value,
        "scope": terms.scope.value,
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


def occurrence_shape(occurrence: OccurrenceView) -> dict[str, Any]:
    """An occurrence, with what was told of it."""
    return {
        "occurrence_id": occurrence.occurrence_id,
        "message_id": occurrence.message_id,
        "alert_id": occurrence.alert_id,
        "kind": occurrence.kind,
        "customer_id": _customer(occurrence.customer_id),
        "window": occurrence.alert_window,
        "threshold": cents_text(occurrence.threshold),
        "occurred_at": time_text(occurrence.occurred_at),
        "data": occurrence.data,
    }


def endpoint_shape(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint, without its secrets. No types means all of them."""
    return {
        "endpoint_id": endpoint.endpoint_id,
        "url": endpoint.url,
        "description": endpoint.description,
        "types": list(endpoint.types or ()),
        "enabled": endpoint.disabled_at is None,
        "disabled_at": _time(endpoint.disabled_at),
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": _time(endpoint.failing_since),
        "last_problem": endpoint.last_problem,
        "delivered_at": _time(endpoint.delivered_at),
        "created_by": endpoint.created_by,
        "created_at": time_text(endpoint.created_at),
        "changed_at": time_text(endpoint.changed_at),
    }


def delivery_shape(delivery: Delivery) -> dict[str, Any]:
    """A delivery; `body` is what is sent, byte for byte."""
    return {
        "delivery_id": delivery.delivery_id,
        "endpoint_id": delivery.endpoint_id,
        "message_id": delivery.message_id,
        "replay": delivery.replay,
        "type": delivery.type,
        "customer_id": _customer(delivery.customer_id),
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "attempted_at": _time(delivery.attempted_at),
        "due_at": _time(delivery.due_at),
        "response_status": delivery.response_status,
        "problem": delivery.problem,
        "created_at": time_text(delivery.created_at),
        "body": delivery.body,
    }


def _customer(customer_id: str) -> str | None:
    return None if customer_id == DEPLOYMENT else customer_id


def _time(moment: datetime | None) -> str | None:
    return time_text(moment) if moment else None

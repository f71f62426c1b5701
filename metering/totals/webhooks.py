"""Endpoints, the log of what was sent to them, and how that goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from metering.domain.deliveries import DeliveryState
from metering.records.webhooks import (
    DELIVERY_ROW,
    ENDPOINT_ROW,
    Delivery,
    Endpoint,
    delivery_of_row,
    endpoint_of_row,
)

_ENDPOINTS = text(
    f"""
    SELECT {ENDPOINT_ROW} FROM webhook_endpoints e WHERE e.deleted_at IS NULL
    ORDER BY e.created_at, e.endpoint_id
    """
)


def list_endpoints(connection: Connection) -> Sequence[Endpoint]:
    """All of them, the oldest first; there are few."""
    return [endpoint_of_row(row) for row in connection.execute(_ENDPOINTS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries; None leaves a filter out."""

    endpoint_id: str | None = None
    customer_id: str | None = None
    message_id: str | None = None
    type: str | None = None
    state: str | None = None


_DELIVERIES = text(
    f"""
    SELECT {DELIVERY_ROW} FROM webhook_deliveries d
    WHERE (CAST(:endpoint_id AS text) IS NULL OR d.endpoint_id = :endpoint_id)
      AND (CAST(:customer_id AS text) IS NULL OR d.customer_id = :customer_id)
      AND (CAST(:message_id AS text) IS NULL OR d.message_id = :message_id)
      AND (CAST(:type AS text) IS NULL OR d.type = :type)
      AND (CAST(:state AS text) IS NULL OR d.state = :state)
      AND (CAST(:before AS timestamptz) IS NULL OR (d.created_at, d.delivery_id) < (:before, :before_id))
    ORDER BY d.created_at DESC, d.delivery_id DESC LIMIT :limit
    """
)


def list_deliveries(
    connection: Connection, *, where: DeliveryFilter, before: tuple[datetime, str] | None, limit: int
) -> Sequence[Delivery]:
    """Deliveries, the newest first, behind the position (created_at, delivery_id)."""
    at, before_id = before or (None, None)
    parameters = {
        "endpoint_id": where.endpoint_id,
        "customer_id": where.customer_id,
        "message_id": where.message_id,
        "type": where.type,
        "state": where.state,
        "before": at,
        "before_id": before_id,
        "limit": limit,
    }
    return [delivery_of_row(row) for row in connection.execute(_DELIVERIES, parameters)]


# Of each message only the last delivery counts: what was replayed with success is not missed.
_FAILED = text(
    f"""
    SELECT {DELIVERY_ROW} FROM webhook_deliveries d
    WHERE d.endpoint_id = :endpoint_id AND d.state IN ('failed', 'skipped') AND d.type <> 'webhook.test'
      AND d.created_at >= :since
      AND NOT EXISTS (SELECT FROM webhook_deliveries later WHERE later.endpoint_id = d.endpoint_id
                      AND later.message_id = d.message_id AND later.replay > d.replay)
    ORDER BY d.created_at, d.delivery_id LIMIT :limit
    """
)


def failed_deliveries(
    connection: Connection, *, endpoint_id: str, since: datetime, limit: int
) -> Sequence[Delivery]:
    """What an endpoint has not got since then and is not about to get, the oldest first."""
    rows = connection.execute(_FAILED, {"endpoint_id": endpoint_id, "since": since, "limit": limit})
    return [delivery_of_row(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertHealth:
    """How alerting goes. `evaluated_ago` is of the kind that was not looked at for longest; zero before any was.

    Endpoints are counted as `ok`, `failing` and `disabled`, and deliveries that did not arrive by their state.
    `oldest_pending_age` is how long the oldest pending delivery is on its way.
    """

    evaluated_ago: timedelta
    endpoints: Mapping[str, int]
    deliveries: Mapping[str, int]
    oldest_pending_age: timedelta


_EVALUATED = text("SELECT min(evaluated_at) FROM alert_evaluations")
_ENDPOINT_STATES = text(
    """
    SELECT CASE WHEN disabled_at IS NOT NULL THEN 'disabled' WHEN failing_since IS NOT NULL THEN 'failing'
           ELSE 'ok' END AS state, count(*) AS endpoints
    FROM webhook_endpoints WHERE deleted_at IS NULL GROUP BY 1
    """
)
_DELIVERY_STATES = text(
    """
    SELECT state, count(*) AS deliveries, min(created_at) AS oldest FROM webhook_deliveries
    WHERE state IN ('pending', 'failed', 'skipped') GROUP BY state
    """
)


def alert_health(connection: Connection, *, now: datetime) -> AlertHealth:
    """How fresh evaluations are, and how far messages get."""
    evaluated_at = connection.execute(_EVALUATED).scalar_one()
    deliveries = connection.execute(_DELIVERY_STATES).all()
    oldest = {row.state: row.oldest for row in deliveries}.get(DeliveryState.PENDING.value)
    return AlertHealth(
        evaluated_ago=now - evaluated_at if evaluated_at else timedelta(),
        endpoints={row.state: row.endpoints for row in connection.execute(_ENDPOINT_STATES)},
        deliveries={row.state: row.deliveries for row in deliveries},
        oldest_pending_age=now - oldest if oldest else timedelta(),
    )

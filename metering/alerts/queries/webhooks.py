"""Lists of webhook endpoints and deliveries, and the health of alerting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from metering.alerts.deliveries import DeliveryState
from metering.alerts.store.deliveries import DELIVERY_ROW, Delivery, delivery_of_row
from metering.alerts.store.endpoints import ENDPOINT_ROW, Endpoint, endpoint_of_row

_ENDPOINTS = text(
    f"""
    SELECT {ENDPOINT_ROW} FROM webhook_endpoints e WHERE e.deleted_at IS NULL
    ORDER BY e.created_at, e.endpoint_id
    """
)


def list_endpoints(connection: Connection) -> Sequence[Endpoint]:
    """All endpoints, oldest first; there are few."""
    return [endpoint_of_row(row) for row in connection.execute(_ENDPOINTS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Filters of deliveries; None does not filter."""

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
    """Deliveries, newest first, that are older than the position (created_at, delivery_id)."""
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


# Only the last delivery of each message counts: a message that was replayed successfully is not missed.
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
    """Failed and skipped deliveries of an endpoint since a time, oldest first, without those replayed later."""
    rows = connection.execute(_FAILED, {"endpoint_id": endpoint_id, "since": since, "limit": limit})
    return [delivery_of_row(row) for row in rows]


# Only the last delivery to each endpoint counts.
_DELIVERY_COUNTS = text(
    """
    SELECT message_id, state, count(*) AS endpoints FROM (
        SELECT DISTINCT ON (d.endpoint_id, d.message_id) d.message_id, d.state
        FROM webhook_endpoints e JOIN webhook_deliveries d ON d.endpoint_id = e.endpoint_id
        WHERE d.message_id = ANY(:message_ids) ORDER BY d.endpoint_id, d.message_id, d.replay DESC
    ) AS latest GROUP BY message_id, state
    """
)


def delivery_counts(
    connection: Connection, *, message_ids: Sequence[str]
) -> Mapping[str, Mapping[DeliveryState, int]]:
    """For each message, the number of endpoints by the state of its last delivery to them."""
    found: dict[str, dict[DeliveryState, int]] = {message_id: {} for message_id in message_ids}
    for row in connection.execute(_DELIVERY_COUNTS, {"message_ids": list(message_ids)}):
        found[row.message_id][DeliveryState(row.state)] = row.endpoints
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertHealth:
    """Health of alerting: the kind whose evaluation is oldest, endpoints by state, the oldest pending delivery.

    `evaluated_at` is None before the first evaluation, and `pending_since` None when no delivery is pending.
    """

    evaluated_at: datetime | None
    endpoints: Mapping[str, int]
    pending_since: datetime | None


_EVALUATED = text("SELECT min(evaluated_at) FROM alert_evaluations")
_ENDPOINT_STATES = text(
    """
    SELECT CASE WHEN disabled_at IS NULL THEN CASE WHEN failing_since IS NULL THEN 'ok' ELSE 'failing' END
           ELSE CASE WHEN failing_since IS NULL THEN 'off' ELSE 'disabled' END END AS state, count(*) AS endpoints
    FROM webhook_endpoints WHERE deleted_at IS NULL GROUP BY 1
    """
)
_PENDING_SINCE = text("SELECT min(created_at) FROM webhook_deliveries WHERE state = 'pending'")


def alert_health(connection: Connection) -> AlertHealth:
    """The health of alerting now."""
    return AlertHealth(
        evaluated_at=connection.execute(_EVALUATED).scalar_one(),
        endpoints={row.state: row.endpoints for row in connection.execute(_ENDPOINT_STATES)},
        pending_since=connection.execute(_PENDING_SINCE).scalar_one(),
    )

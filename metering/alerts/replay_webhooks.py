"""Replay webhooks: send a message from the log again, unchanged and with the same message id."""

from datetime import datetime

from sqlalchemy import Connection, Engine

from metering.access.actors import Author
from metering.access.store.audit_log import State, log_action
from metering.alerts.queries.webhooks import failed_deliveries
from metering.alerts.store.deliveries import Delivery, add_replay, get_delivery
from metering.alerts.store.endpoints import get_endpoint
from metering.core.errors import MeteringError
from metering.db.engine import transaction

MAX_REPLAYED = 1_000


class EndpointDisabledError(MeteringError):
    """The endpoint is disabled, so nothing is sent to it."""


def replay_delivery(*, engine: Engine, delivery_id: str, now: datetime, by: Author = "metering") -> Delivery:
    """Add a delivery of the same message to the same endpoint; returns it, or one that is already pending.

    Raises:
        UnknownDeliveryError: there is no such delivery, or it is past its retention.
        UnknownEndpointError: its endpoint is deleted.
        EndpointDisabledError: its endpoint is disabled.
    """
    with transaction(engine) as connection:
        delivery = get_delivery(connection, delivery_id=delivery_id)
        _check_enabled(connection, delivery.endpoint_id)
        again = get_delivery(connection, delivery_id=add_replay(connection, delivery, now=now))
        after = {"endpoint_id": delivery.endpoint_id, "deliveries": [again.delivery_id]}
        _log(connection, delivery_id, after, by, now)
        return again


def replay_failed(
    *, engine: Engine, endpoint_id: str, since: datetime, now: datetime, by: Author = "metering"
) -> int:
    """Replay up to 1,000 messages, oldest first, that an endpoint has missed since a time; returns how many.

    Raises:
        UnknownEndpointError, EndpointDisabledError.
    """
    with transaction(engine) as connection:
        _check_enabled(connection, endpoint_id)
        missed = failed_deliveries(connection, endpoint_id=endpoint_id, since=since, limit=MAX_REPLAYED)
        again = [add_replay(connection, delivery, now=now) for delivery in missed]
        if again:
            after = {"endpoint_id": endpoint_id, "since": since, "deliveries": again}
            _log(connection, endpoint_id, after, by, now)
    return len(missed)


def _log(connection: Connection, subject: str, after: State, by: Author, now: datetime) -> None:
    log_action(connection, by=by, now=now, kind="webhook_delivery", action="replay", subject=subject, after=after)


def _check_enabled(connection: Connection, endpoint_id: str) -> None:
    if get_endpoint(connection, endpoint_id=endpoint_id).disabled_at is not None:
        raise EndpointDisabledError(f"webhook endpoint {endpoint_id!r} is disabled: enable it first")

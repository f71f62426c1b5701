"""SQL that writes deliveries: one row per message and endpoint, and one more per replay.

A worker claims deliveries with a lease and a fence: when the lease has expired, another worker may claim them, and
the fence keeps the first one from recording its result.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from metering.alerts.deliveries import DeliveryState, Message, delivery_id_of
from metering.core.errors import MeteringError
from metering.db.rows import json_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message to be sent to an endpoint. `replay` is 0 for the first delivery and counts up with each replay."""

    delivery_id: str
    endpoint_id: str
    message_id: str
    replay: int
    customer_id: str
    type: str
    body: str
    state: DeliveryState
    attempts: int
    due_at: datetime | None
    fence: int
    response_status: int | None
    problem: str | None
    created_at: datetime
    attempted_at: datetime | None


DELIVERY_ROW = """
    d.delivery_id, d.endpoint_id, d.message_id, d.replay, d.customer_id, d.type, d.body, d.state, d.attempts,
    d.due_at, d.fence, d.response_status, d.problem, d.created_at, d.attempted_at
"""


def delivery_of_row(row: Any) -> Delivery:
    """The delivery in a row of `DELIVERY_ROW`."""
    return Delivery(**{**row._mapping, "state": DeliveryState(row.state)})


# Longer than any attempt: METERING_WEBHOOKS_TIMEOUT is 30 s at most.
LEASE = timedelta(seconds=90)


class UnknownDeliveryError(MeteringError):
    """There is no such delivery, or it is past its retention."""


_ADD = text(
    """
    INSERT INTO webhook_deliveries (endpoint_id, message_id, replay, delivery_id, customer_id, type, body, state,
        attempts, due_at, fence, created_at)
    SELECT endpoint_id, message_id, replay, delivery_id, customer_id, type, body, 'pending', 0, :now, 0, :now
    FROM json_to_recordset(CAST(:rows AS json)) AS d (endpoint_id text, message_id text, replay integer,
        delivery_id text, customer_id text, type text, body text)
    ORDER BY endpoint_id, message_id, replay ON CONFLICT DO NOTHING RETURNING delivery_id
    """
)
_SUBSCRIBED = text(
    "SELECT endpoint_id, types FROM webhook_endpoints WHERE deleted_at IS NULL ORDER BY endpoint_id"
)


def add_deliveries(connection: Connection, messages: Sequence[Message], *, now: datetime) -> int:
    """Add deliveries of messages to every endpoint that takes their type; returns how many.

    A disabled endpoint gets deliveries too: they are listed as skipped and can be replayed.
    """
    added = 0
    for endpoint in connection.execute(_SUBSCRIBED).all() if messages else ():
        rows = [
            _new_row(message, endpoint_id=endpoint.endpoint_id, replay=0)
            for message in messages
            if endpoint.types is None or message.type in endpoint.types
        ]
        added += len(_add(connection, rows, now)) if rows else 0
    return added


def add_delivery(connection: Connection, message: Message, *, endpoint_id: str, now: datetime) -> str:
    """Add a delivery of a message to one endpoint; returns its id."""
    (delivery_id,) = _add(connection, [_new_row(message, endpoint_id=endpoint_id, replay=0)], now)
    return delivery_id


_LAST_REPLAY = text(
    f"""
    SELECT {DELIVERY_ROW} FROM webhook_deliveries d
    WHERE d.endpoint_id = :endpoint_id AND d.message_id = :message_id ORDER BY d.replay DESC LIMIT 1 FOR UPDATE
    """
)


def add_replay(connection: Connection, delivery: Delivery, *, now: datetime) -> str:
    """Add another delivery of the same message; returns its id, or the id of one that is already pending."""
    where = {"endpoint_id": delivery.endpoint_id, "message_id": delivery.message_id}
    last = delivery_of_row(connection.execute(_LAST_REPLAY, where).one())
    if last.state is DeliveryState.PENDING:
        return last.delivery_id
    message = Message(message_id=last.message_id, type=last.type, customer_id=last.customer_id, body=last.body)
    row = _new_row(message, endpoint_id=last.endpoint_id, replay=last.replay + 1)
    _add(connection, [row], now)
    return str(row["delivery_id"])


def _add(connection: Connection, rows: Iterable[dict[str, object]], now: datetime) -> Sequence[str]:
    return connection.execute(_ADD, {"rows": json_rows(rows), "now": now}).scalars().all()


def _new_row(message: Message, *, endpoint_id: str, replay: int) -> dict[str, object]:
    delivery_id = delivery_id_of(endpoint_id=endpoint_id, message_id=message.message_id, replay=replay)
    return {
        "endpoint_id": endpoint_id,
        "message_id": message.message_id,
        "replay": replay,
        "delivery_id": delivery_id,
        "customer_id": message.customer_id,
        "type": message.type,
        "body": message.body,
    }


_ONE = text(f"SELECT {DELIVERY_ROW} FROM webhook_deliveries d WHERE d.delivery_id = :delivery_id")


def get_delivery(connection: Connection, *, delivery_id: str) -> Delivery:
    """A delivery.

    Raises:
        UnknownDeliveryError: there is no such delivery, or it is past its retention.
    """
    row = connection.execute(_ONE, {"delivery_id": delivery_id}).first()
    if row is None:
        raise UnknownDeliveryError(f"there is no webhook delivery {delivery_id!r}: it may be past its retention")
    return delivery_of_row(row)


# A few per endpoint, so that one slow endpoint, or one with a backlog, does not occupy every thread.
_CLAIM = text(
    f"""
    UPDATE webhook_deliveries d SET lease_until = :until, fence = d.fence + 1, attempts = d.attempts + 1,
        attempted_at = :now
    FROM (
        SELECT due.delivery_id FROM webhook_endpoints e CROSS JOIN LATERAL (
            SELECT w.delivery_id FROM webhook_deliveries w
            WHERE w.endpoint_id = e.endpoint_id AND w.due_at <= :now
              AND (w.lease_until IS NULL OR w.lease_until < :now)
            ORDER BY w.due_at LIMIT :each FOR UPDATE SKIP LOCKED) AS due
        WHERE e.disabled_at IS NULL AND e.deleted_at IS NULL LIMIT :limit
    ) AS claimed
    WHERE d.delivery_id = claimed.delivery_id RETURNING {DELIVERY_ROW}
    """
)


def claim_deliveries(connection: Connection, *, now: datetime, limit: int, each: int) -> Sequence[Delivery]:
    """Lease up to `limit` due deliveries, at most `each` per endpoint; their `attempts` include this attempt."""
    parameters = {"now": now, "until": now + LEASE, "limit": limit, "each": each}
    return [delivery_of_row(row) for row in connection.execute(_CLAIM, parameters)]


_CLAIM_ONE = text(
    f"""
    UPDATE webhook_deliveries d SET lease_until = :until, fence = d.fence + 1, attempts = d.attempts + 1,
        attempted_at = :now
    WHERE d.delivery_id = :delivery_id RETURNING {DELIVERY_ROW}
    """
)


def claim_delivery(connection: Connection, *, delivery_id: str, now: datetime) -> Delivery:
    """Lease a delivery that was just added in this transaction."""
    parameters = {"delivery_id": delivery_id, "now": now, "until": now + LEASE}
    return delivery_of_row(connection.execute(_CLAIM_ONE, parameters).one())


_RECORD = text(
    """
    UPDATE webhook_deliveries SET state = :state, due_at = :due_at, lease_until = NULL,
        response_status = :response_status, problem = :problem
    WHERE delivery_id = :delivery_id AND fence = :fence
    """
)


def record_delivery(connection: Connection, delivery: Delivery) -> bool:
    """Record the result of a claimed delivery and end its lease; False when another worker has taken it over."""
    parameters = {
        "delivery_id": delivery.delivery_id,
        "fence": delivery.fence,
        "state": delivery.state.value,
        "due_at": delivery.due_at,
        "response_status": delivery.response_status,
        "problem": delivery.problem,
    }
    return connection.execute(_RECORD, parameters).rowcount == 1


# Leased deliveries are being sent; the worker that holds the lease records them.
_SKIP = text(
    """
    UPDATE webhook_deliveries d SET state = 'skipped', due_at = NULL, lease_until = NULL,
        problem = 'the endpoint is disabled or deleted; once it is enabled, the delivery can be replayed'
    FROM (
        SELECT w.delivery_id FROM webhook_endpoints e
        JOIN webhook_deliveries w ON w.endpoint_id = e.endpoint_id AND w.due_at IS NOT NULL
        WHERE (e.disabled_at IS NOT NULL OR e.deleted_at IS NOT NULL)
          AND (w.lease_until IS NULL OR w.lease_until < :now)
        LIMIT :limit FOR UPDATE OF w SKIP LOCKED
    ) AS undeliverable
    WHERE d.delivery_id = undeliverable.delivery_id
    """
)


def skip_deliveries(connection: Connection, *, now: datetime, limit: int) -> int:
    """Skip up to `limit` pending deliveries to disabled or deleted endpoints; returns how many."""
    return connection.execute(_SKIP, {"now": now, "limit": limit}).rowcount


_PRUNE = text(
    """
    DELETE FROM webhook_deliveries WHERE delivery_id IN (
        SELECT delivery_id FROM webhook_deliveries WHERE created_at < :before
        ORDER BY created_at LIMIT :limit)
    """
)


def prune_deliveries(connection: Connection, *, before: datetime, limit: int) -> int:
    """Remove up to `limit` deliveries that were added before a time; returns how many."""
    return connection.execute(_PRUNE, {"before": before, "limit": limit}).rowcount

"""Send webhooks: claim deliveries with a lease, post each with no transaction open, record the result.

When a worker dies between posting and recording, its lease expires and the message is posted again with the same
`webhook-id`.
"""

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from metering.alerts.alerts import DEPLOYMENT
from metering.alerts.deliveries import (
    MAX_ATTEMPTS,
    TEST_TYPE,
    Attempt,
    DeliveryState,
    Message,
    next_attempt_at,
)
from metering.alerts.messages import message_body
from metering.alerts.signing import signed_headers
from metering.alerts.store.deliveries import (
    Delivery,
    add_delivery,
    claim_deliveries,
    claim_delivery,
    get_delivery,
    record_delivery,
    skip_deliveries,
)
from metering.alerts.store.endpoints import (
    Endpoint,
    UnknownEndpointError,
    get_endpoint,
    lock_endpoint,
    signing_secrets,
    store_endpoint,
)
from metering.alerts.transport import WebhookTransport
from metering.db.engine import transaction

log = logging.getLogger(__name__)

_MAX_SKIPPED = 5_000
_HEADERS = {"content-type": "application/json", "user-agent": "metering-webhooks/1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSender:
    """What sending needs. An endpoint whose deliveries all fail is disabled after `disable_after`."""

    engine: Engine
    transport: WebhookTransport
    clock: Callable[[], datetime]
    disable_after: timedelta


def send_due(*, sender: WebhookSender, threads: int, each: int) -> Mapping[DeliveryState, int]:
    """Send up to `threads` due deliveries in parallel, at most `each` per endpoint; counts them by new state."""
    with transaction(sender.engine) as connection:
        skip_deliveries(connection, now=sender.clock(), limit=_MAX_SKIPPED)
        claimed = claim_deliveries(connection, now=sender.clock(), limit=threads, each=each)
    if not claimed:
        return {}
    with ThreadPoolExecutor(len(claimed), thread_name_prefix="webhook") as pool:
        sent = [pool.submit(send_claimed, sender, delivery) for delivery in claimed]
    return Counter(state for future in sent if (state := future.result()) is not None)


def send_claimed(sender: WebhookSender, delivery: Delivery) -> DeliveryState | None:
    """Post a claimed delivery and record the result; None when another worker has taken it over."""
    with transaction(sender.engine) as connection:
        try:
            endpoint = get_endpoint(connection, endpoint_id=delivery.endpoint_id)
        except UnknownEndpointError as error:
            gone = replace(delivery, state=DeliveryState.SKIPPED, due_at=None, problem=str(error))
            return gone.state if record_delivery(connection, gone) else None
        now = sender.clock()
        keys = signing_secrets(connection, endpoint_id=endpoint.endpoint_id, now=now)
    if delivery.attempts > MAX_ATTEMPTS:
        attempt = Attempt(problem="the last attempt was interrupted; its result is unknown")
    else:
        body = delivery.body.encode()
        signed = signed_headers(message_id=delivery.message_id, at=now, body=body, secrets=keys)
        attempt = sender.transport.post(url=endpoint.url, headers={**_HEADERS, **signed}, body=body, now=now)
    return _record(sender, delivery, attempt)


def try_endpoint(*, sender: WebhookSender, endpoint_id: str) -> Delivery:
    """Send an endpoint a test message, once, even when it is disabled; returns the delivery with its result.

    Raises:
        UnknownEndpointError: there is no such endpoint.
    """
    now = sender.clock()
    message = Message(
        message_id=f"msg_{secrets.token_hex(12)}",
        type=TEST_TYPE,
        customer_id=DEPLOYMENT,
        body=message_body(type=TEST_TYPE, at=now, data={"endpoint_id": endpoint_id}),
    )
    with transaction(sender.engine) as connection:
        get_endpoint(connection, endpoint_id=endpoint_id)
        delivery_id = add_delivery(connection, message, endpoint_id=endpoint_id, now=now)
        delivery = claim_delivery(connection, delivery_id=delivery_id, now=now)
    send_claimed(sender, delivery)
    with transaction(sender.engine) as connection:
        return get_delivery(connection, delivery_id=delivery_id)


def _record(sender: WebhookSender, delivery: Delivery, attempt: Attempt) -> DeliveryState | None:
    now = sender.clock()
    after = _delivery_after(delivery, attempt, now)
    with transaction(sender.engine) as connection:
        # Every transaction locks the endpoint before the delivery, so that two cannot deadlock.
        disabled = _record_at_endpoint(connection, sender, delivery, attempt, now)
        recorded = record_delivery(connection, after)
    facts = {"endpoint_id": delivery.endpoint_id, "delivery_id": delivery.delivery_id, "problem": attempt.problem}
    if disabled is not None:
        log.error("webhook endpoint disabled", extra={**facts, "reason": disabled.disabled_reason})
    if not recorded:
        log.warning("webhook delivery was taken over by another worker", extra=facts)
        return None
    if after.state is DeliveryState.FAILED:
        log.error("webhook delivery failed, will not retry", extra={**facts, "attempts": delivery.attempts})
    elif after.state is DeliveryState.PENDING:
        log.warning("webhook delivery failed, will retry", extra={**facts, "at": str(after.due_at)})
    return after.state


def _delivery_after(delivery: Delivery, attempt: Attempt, now: datetime) -> Delivery:
    state, due_at = DeliveryState.DELIVERED, None
    if not attempt.delivered:
        if delivery.type != TEST_TYPE:
            due_at = next_attempt_at(
                delivery_id=delivery.delivery_id,
                attempts=delivery.attempts,
                now=now,
                retry_after=attempt.retry_after,
            )
        state = DeliveryState.FAILED if due_at is None else DeliveryState.PENDING
    return replace(delivery, state=state, due_at=due_at, response_status=attempt.status, problem=attempt.problem)


def _record_at_endpoint(
    connection: Connection, sender: WebhookSender, delivery: Delivery, attempt: Attempt, now: datetime
) -> Endpoint | None:
    """Record the attempt at its endpoint; returns the endpoint when this disables it."""
    try:
        endpoint = lock_endpoint(connection, endpoint_id=delivery.endpoint_id)
    except UnknownEndpointError:
        return None
    after = _endpoint_after(endpoint, attempt, now, sender.disable_after)
    store_endpoint(connection, after)
    return after if after.disabled_at is not None and endpoint.disabled_at is None else None


def _endpoint_after(endpoint: Endpoint, attempt: Attempt, now: datetime, disable_after: timedelta) -> Endpoint:
    if endpoint.disabled_at is not None:  # a test message: the reason for disabling stays
        return replace(endpoint, delivered_at=now if attempt.delivered else endpoint.delivered_at)
    if attempt.delivered:
        return replace(endpoint, failing_since=None, last_problem=None, delivered_at=now)
    since = endpoint.failing_since or now
    failing = replace(endpoint, failing_since=since, last_problem=attempt.problem)
    if attempt.gone:
        return replace(failing, disabled_at=now, disabled_reason="the endpoint answered 410 Gone")
    if now - since >= disable_after:
        reason = f"all deliveries failed since {since.isoformat(timespec='seconds')}: {attempt.problem}"
        return replace(failing, disabled_at=now, disabled_reason=reason)
    return failing

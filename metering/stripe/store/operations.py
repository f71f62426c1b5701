"""SQL that records operations: each write to Stripe before it is sent, with its idempotency key and outcome."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, text

from metering.stripe.store.pushes import ClaimedPush, record_push

# Stripe may forget a key after 24 hours. We stop using it an hour earlier.
KEY_LIFETIME = timedelta(hours=23)


class OperationOutcome(StrEnum):
    """What is known of a write. A write without an outcome may or may not have taken effect."""

    DONE = "done"
    REFUSED = "refused"
    REPLAYED_ERROR = "replayed_error"
    GONE = "gone"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeOperation:
    """A write that is about to be sent, with exactly these parameters.

    `generation` counts the idempotency keys that the same write has used, from 1.
    """

    customer_id: str
    invoice_id: str
    version: int
    operation: str
    generation: int
    parameters: Mapping[str, Any]
    environment: str

    @property
    def idempotency_key(self) -> str:
        """The key, which is the same each time this write is sent."""
        return f"{self.environment}/{self.invoice_id}/{self.version}/{self.operation}/{self.generation}"


_NEWEST = text(
    """
    SELECT generation, parameters::text AS parameters, sent_at, outcome FROM stripe_operations
    WHERE customer_id = :customer_id AND invoice_id = :invoice_id AND version = :version
      AND operation = :operation ORDER BY generation DESC LIMIT 1
    """
)
_INSERT = text(
    """
    INSERT INTO stripe_operations (customer_id, invoice_id, version, operation, generation, parameters, sent_at)
    VALUES (:customer_id, :invoice_id, :version, :operation, :generation, CAST(:parameters AS json), :now)
    """
)


def begin_operation(
    connection: Connection,
    claimed: ClaimedPush,
    *,
    version: int,
    operation: str,
    parameters: Mapping[str, Any],
    environment: str,
    now: datetime,
) -> StripeOperation:
    """Record a write before it is sent, and return it. Stripe must have been read since the write before.

    If the same write was sent and its outcome is unknown, the returned operation has the parameters and the key of
    that one, so that it cannot take effect twice. Once that key has expired, a new one is used.

    Raises:
        LeaseLostError: another worker has the push.
    """
    record_push(connection, claimed, now=now)
    key: dict[str, Any] = {
        "customer_id": claimed.customer_id,
        "invoice_id": claimed.invoice_id,
        "version": version,
        "operation": operation,
    }
    newest = connection.execute(_NEWEST, key).first()
    generation = newest.generation if newest is not None else 0
    if newest is not None and newest.outcome is None:
        if now - newest.sent_at < KEY_LIFETIME:
            sent = json.loads(newest.parameters)
            return StripeOperation(**key, generation=generation, parameters=sent, environment=environment)
        expired = StripeOperation(**key, generation=generation, parameters={}, environment=environment)
        answer_operation(connection, expired, outcome=OperationOutcome.EXPIRED, now=now)
    connection.execute(
        _INSERT, {**key, "generation": generation + 1, "parameters": json.dumps(parameters), "now": now}
    )
    return StripeOperation(**key, generation=generation + 1, parameters=parameters, environment=environment)


_ANSWER = text(
    """
    UPDATE stripe_operations SET outcome = :outcome, stripe_object_id = :stripe_object_id,
        stripe_request_id = :stripe_request_id, problem = :problem, answered_at = :now
    WHERE customer_id = :customer_id AND invoice_id = :invoice_id AND version = :version
      AND operation = :operation AND generation = :generation
    """
)


def answer_operation(
    connection: Connection,
    operation: StripeOperation,
    *,
    outcome: OperationOutcome | None,
    now: datetime,
    stripe_object_id: str | None = None,
    stripe_request_id: str | None = None,
    problem: str | None = None,
) -> None:
    """Record the outcome of a write; None when it is unknown."""
    connection.execute(
        _ANSWER,
        {
            "customer_id": operation.customer_id,
            "invoice_id": operation.invoice_id,
            "version": operation.version,
            "operation": operation.operation,
            "generation": operation.generation,
            "outcome": outcome,
            "stripe_object_id": stripe_object_id,
            "stripe_request_id": stripe_request_id,
            "problem": problem,
            "now": now,
        },
    )


_CONFIRM = text(
    """
    UPDATE stripe_operations SET outcome = 'done', stripe_object_id = :stripe_object_id, answered_at = :now
    WHERE customer_id = :customer_id AND invoice_id = :invoice_id AND operation = :operation AND outcome IS NULL
    """
)


def confirm_creation(
    connection: Connection, claimed: ClaimedPush, *, operation: str, stripe_invoice_id: str, now: datetime
) -> None:
    """Record that a creation without an answer took effect, because Stripe was read and has the invoice."""
    connection.execute(
        _CONFIRM,
        {
            "customer_id": claimed.customer_id,
            "invoice_id": claimed.invoice_id,
            "operation": operation,
            "stripe_object_id": stripe_invoice_id,
            "now": now,
        },
    )

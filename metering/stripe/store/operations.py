"""SQL that records operations: each write to Stripe before it is sent, with its idempotency key and outcome."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, TextClause, text

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

    `generation` counts the idempotency keys that the same write has used, from 1; 0 before it is recorded.
    """

    customer_id: str
    invoice_id: str
    version: int
    operation: str
    generation: int = 0
    parameters: Mapping[str, Any]
    environment: str

    @property
    def idempotency_key(self) -> str:
        """The key, which is the same each time this write is sent."""
        return f"{self.environment}/{self.invoice_id}/{self.version}/{self.operation}/{self.generation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationLog:
    """A table of writes. `names` are the columns that name a write, `kept` what is kept of its answer."""

    table: str
    names: tuple[str, ...]
    kept: tuple[str, ...]

    def begin(
        self, connection: Connection, wanted: StripeOperation, named: Mapping[str, Any], *, now: datetime
    ) -> StripeOperation:
        """Record a write before it is sent, and return it. Stripe must have been read since the write before.

        If the same write was sent and its outcome is unknown, the returned operation has the parameters and the
        key of that one, so that it cannot take effect twice. Once that key has expired, a new one is used.
        """
        newest = connection.execute(self._newest, named).first()
        generation = newest.generation if newest is not None else 0
        if newest is not None and newest.outcome is None:
            if now - newest.sent_at < KEY_LIFETIME:
                return replace(wanted, generation=generation, parameters=json.loads(newest.parameters))
            self.answer(connection, named, generation=generation, outcome=OperationOutcome.EXPIRED, now=now)
        new = replace(wanted, generation=generation + 1)
        parameters = json.dumps(new.parameters)
        connection.execute(
            self._insert, {**named, "generation": new.generation, "parameters": parameters, "now": now}
        )
        return new

    def answer(
        self,
        connection: Connection,
        named: Mapping[str, Any],
        *,
        generation: int,
        outcome: OperationOutcome | None,
        now: datetime,
        **kept: str | None,
    ) -> None:
        """Record the outcome of a write; None when it is unknown."""
        values = dict.fromkeys(self.kept) | kept
        connection.execute(
            self._answer, {**named, **values, "generation": generation, "outcome": outcome, "now": now}
        )

    @property
    def _newest(self) -> TextClause:
        return text(
            f"""
            SELECT generation, parameters::text AS parameters, sent_at, outcome FROM {self.table}
            WHERE {_equal(self.names, " AND ")} ORDER BY generation DESC LIMIT 1
            """
        )

    @property
    def _insert(self) -> TextClause:
        return text(
            f"""
            INSERT INTO {self.table} ({", ".join(self.names)}, generation, parameters, sent_at)
            VALUES ({", ".join(f":{name}" for name in self.names)}, :generation, CAST(:parameters AS json), :now)
            """
        )

    @property
    def _answer(self) -> TextClause:
        return text(
            f"""
            UPDATE {self.table} SET outcome = :outcome, {_equal(self.kept, ", ")}, answered_at = :now
            WHERE {_equal(self.names, " AND ")} AND generation = :generation
            """
        )


def _equal(names: Iterable[str], between: str) -> str:
    return between.join(f"{name} = :{name}" for name in names)


_OF_INVOICES = OperationLog(
    table="stripe_operations",
    names=("customer_id", "invoice_id", "version", "operation"),
    kept=("stripe_object_id", "stripe_request_id", "problem"),
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
    """Record a write of a push before it is sent, as `OperationLog.begin` does.

    Raises:
        LeaseLostError: another worker has the push.
    """
    record_push(connection, claimed, now=now)
    wanted = StripeOperation(
        customer_id=claimed.customer_id,
        invoice_id=claimed.invoice_id,
        version=version,
        operation=operation,
        parameters=parameters,
        environment=environment,
    )
    return _OF_INVOICES.begin(connection, wanted, _named(wanted), now=now)


def answer_operation(
    connection: Connection,
    operation: StripeOperation,
    *,
    outcome: OperationOutcome | None,
    now: datetime,
    **kept: str | None,
) -> None:
    """Record the outcome of a write of a push; None when it is unknown."""
    generation = operation.generation
    _OF_INVOICES.answer(connection, _named(operation), generation=generation, outcome=outcome, now=now, **kept)


def _named(operation: StripeOperation) -> dict[str, Any]:
    return {
        "customer_id": operation.customer_id,
        "invoice_id": operation.invoice_id,
        "version": operation.version,
        "operation": operation.operation,
    }


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

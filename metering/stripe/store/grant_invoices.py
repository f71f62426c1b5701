"""SQL of the Stripe invoices that pay grants: claimed with a lease, and every write recorded before it is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, text

from metering.db.locks import Lock, take
from metering.stripe.store.operations import OperationLog, OperationOutcome, StripeOperation
from metering.stripe.store.pushes import LEASE, LeaseLostError


class GrantInvoiceState(StrEnum):
    """How far the invoice of a grant is. From `PAID` on it needs nothing more; `STUCK` needs a person."""

    PENDING = "pending"
    UNLINKED = "unlinked"
    OPEN = "open"
    PAID = "paid"
    VOID = "void"
    UNCOLLECTIBLE = "uncollectible"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedGrantInvoice:
    """The invoice of a grant that this worker holds while the row has the same fence."""

    customer_id: str
    grant_id: str
    fence: int
    state: GrantInvoiceState
    stripe_customer_id: str | None
    stripe_invoice_id: str | None
    attempts: int
    created_at: datetime
    paid_usd_cents: Decimal
    amount_usd_cents: Decimal


_CLAIM = text(
    """
    UPDATE grant_invoices i SET lease_until = :until, fence = i.fence + 1 FROM (
        SELECT d.customer_id, d.grant_id FROM grant_invoices d
        WHERE d.due_at <= :now AND (d.lease_until IS NULL OR d.lease_until < :now)
        ORDER BY d.due_at LIMIT :limit
    ) AS claimed JOIN grants g ON g.customer_id = claimed.customer_id AND g.grant_id = claimed.grant_id
    WHERE i.customer_id = claimed.customer_id AND i.grant_id = claimed.grant_id
      AND (i.lease_until IS NULL OR i.lease_until < :now)
    RETURNING i.customer_id, i.grant_id, i.fence, i.state, i.stripe_customer_id, i.stripe_invoice_id, i.attempts,
              i.created_at, g.paid_usd_cents, g.amount_usd_cents
    """
)


def claim_grant_invoices(connection: Connection, *, now: datetime, limit: int) -> Sequence[ClaimedGrantInvoice]:
    """Lease up to `limit` due invoices of grants. Claims wait for each other: commit soon."""
    take(connection, Lock.GRANT_INVOICE_CLAIM)
    rows = connection.execute(_CLAIM, {"now": now, "until": now + LEASE, "limit": limit})
    return [
        ClaimedGrantInvoice(**{**row._mapping, "state": GrantInvoiceState(row._mapping["state"])}) for row in rows
    ]


def record_grant_invoice(
    connection: Connection, claimed: ClaimedGrantInvoice, *, now: datetime, **changes: object
) -> None:
    """Set columns of a row that this worker holds, and renew the lease; `lease_until=None` releases it.

    Raises:
        LeaseLostError: another worker has it.
    """
    values = {"lease_until": now + LEASE, "changed_at": now, **changes}
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    update = f"""
        UPDATE grant_invoices SET {assignments}
        WHERE customer_id = :held_customer_id AND grant_id = :held_grant_id AND fence = :held_fence
    """
    held = {
        "held_customer_id": claimed.customer_id,
        "held_grant_id": claimed.grant_id,
        "held_fence": claimed.fence,
    }
    if connection.execute(text(update), {**values, **held}).rowcount != 1:
        raise LeaseLostError(f"grant {claimed.grant_id}: another worker is invoicing it")


_OPERATIONS = OperationLog(
    table="grant_operations",
    names=("customer_id", "grant_id", "operation"),
    kept=("stripe_object_id", "problem"),
)


def begin_grant_operation(
    connection: Connection,
    claimed: ClaimedGrantInvoice,
    *,
    operation: str,
    parameters: Mapping[str, Any],
    environment: str,
    now: datetime,
) -> StripeOperation:
    """Record a write before it is sent, as `OperationLog.begin` does.

    Raises:
        LeaseLostError: another worker has it.
    """
    record_grant_invoice(connection, claimed, now=now)
    wanted = StripeOperation(
        customer_id=claimed.customer_id,
        invoice_id=mark_of_grant(claimed.grant_id),
        version=1,
        operation=operation,
        parameters=parameters,
        environment=environment,
    )
    return _OPERATIONS.begin(connection, wanted, _named(claimed, operation), now=now)


def answer_grant_operation(
    connection: Connection,
    claimed: ClaimedGrantInvoice,
    operation: StripeOperation,
    *,
    outcome: OperationOutcome | None,
    now: datetime,
    **kept: str | None,
) -> None:
    """Record the outcome of a write; None when it is unknown."""
    named, generation = _named(claimed, operation.operation), operation.generation
    _OPERATIONS.answer(connection, named, generation=generation, outcome=outcome, now=now, **kept)


def _named(claimed: ClaimedGrantInvoice, operation: str) -> dict[str, Any]:
    return {"customer_id": claimed.customer_id, "grant_id": claimed.grant_id, "operation": operation}


def mark_of_grant(grant_id: str) -> str:
    """What marks the invoice of a grant at Stripe, behind the environment.

    >>> mark_of_grant("gr_5d4c0a9b")
    'grant/gr_5d4c0a9b'
    """
    return f"grant/{grant_id}"


_WAKE = text(
    "UPDATE grant_invoices SET due_at = :now WHERE stripe_invoice_id = :stripe_invoice_id AND state = 'open'"
)


def wake_grant_invoice(connection: Connection, *, stripe_invoice_id: str, now: datetime) -> None:
    """Make the grant's invoice due, so that a worker reads it at Stripe."""
    connection.execute(_WAKE, {"stripe_invoice_id": stripe_invoice_id, "now": now})

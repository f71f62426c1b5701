"""SQL that writes pushes: one row per invoice, claimed with a lease and updated only under its fence.

A fence is a number that grows with each claim, so a worker that has lost its lease cannot write.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from metering.core.errors import MeteringError
from metering.db.locks import Lock, take
from metering.db.rows import copy_rows, json_rows, json_value, moment
from metering.months.invoice import Invoice
from metering.stripe.push import UNDER_WAY, PushState
from metering.stripe.snapshot import ReadBack, StripeEvent

# Longer than any call to Stripe takes. The lease is renewed before each write.
LEASE = timedelta(seconds=60)

_COPY = "COPY invoice_pushes (customer_id, invoice_id, period, state, due_at, changed_at) FROM STDIN"


class LeaseLostError(MeteringError):
    """Another worker has claimed this push: stop, and write nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedPush:
    """A push that this worker holds while the row has the same fence.

    `stripe_customer_id` is the Stripe customer that the invoice was written to; None before the first write.
    """

    customer_id: str
    invoice_id: str
    fence: int
    state: PushState
    version: int
    stripe_invoice_id: str | None
    attempts: int
    failures: int
    due_at: datetime | None
    stripe_customer_id: str | None


def add_pushes(connection: Connection, invoices: Sequence[Invoice], now: datetime) -> None:
    """Add the pushes of new invoices; an invoice that bills nothing is deferred."""
    at = moment(now)
    copy_rows(
        connection,
        _COPY,
        (
            (
                invoice.customer_id,
                invoice.invoice_id,
                str(invoice.period),
                (PushState.DEFERRED if invoice.deferred else PushState.PENDING).value,
                None if invoice.deferred else at,
                at,
            )
            for invoice in invoices
        ),
    )


# A push waits for the customer's earlier months, so that no two workers write to the same Stripe customer.
# The last condition is checked once more when the row is locked: another session may have leased it meanwhile.
_CLAIM = text(
    """
    UPDATE invoice_pushes p SET lease_until = :until, fence = p.fence + 1 FROM (
        SELECT s.customer_id, s.invoice_id FROM invoice_pushes s
        WHERE s.due_at <= :now AND (s.lease_until IS NULL OR s.lease_until < :now)
          AND (CAST(:period AS text) IS NULL OR s.period <= :period)
          AND (CAST(:only AS text) IS NULL OR s.customer_id = :only)
          AND NOT EXISTS (SELECT FROM invoice_pushes e WHERE e.customer_id = s.customer_id
                          AND e.period < s.period AND e.state = ANY(:under_way))
        ORDER BY s.due_at LIMIT :limit
    ) AS claimed
    WHERE p.customer_id = claimed.customer_id AND p.invoice_id = claimed.invoice_id
      AND (p.lease_until IS NULL OR p.lease_until < :now)
    RETURNING p.customer_id, p.invoice_id, p.fence, p.state, p.version, p.stripe_invoice_id, p.attempts,
              p.failures, p.due_at, p.stripe_customer_id
    """
)


def claim_pushes(
    connection: Connection, *, now: datetime, limit: int, period: str | None = None, only: str | None = None
) -> list[ClaimedPush]:
    """Lease up to `limit` due pushes, of months up to `period` and of one customer where given.

    Claims wait for each other: commit soon.
    """
    take(connection, Lock.PUSH_CLAIM)
    parameters = {
        "now": now,
        "until": now + LEASE,
        "limit": limit,
        "period": period,
        "only": only,
        "under_way": sorted(UNDER_WAY),
    }
    return [_claimed(row) for row in connection.execute(_CLAIM, parameters)]


_CLAIM_ONE = text(
    """
    UPDATE invoice_pushes p SET lease_until = :until, fence = p.fence + 1
    WHERE p.customer_id = :customer_id AND p.invoice_id = :invoice_id
      AND (p.lease_until IS NULL OR p.lease_until < :now)
    RETURNING p.customer_id, p.invoice_id, p.fence, p.state, p.version, p.stripe_invoice_id, p.attempts,
              p.failures, p.due_at, p.stripe_customer_id
    """
)


def claim_push(connection: Connection, *, customer_id: str, invoice_id: str, now: datetime) -> ClaimedPush | None:
    """Lease one push, due or not; None while another worker has it."""
    parameters = {"customer_id": customer_id, "invoice_id": invoice_id, "now": now, "until": now + LEASE}
    row = connection.execute(_CLAIM_ONE, parameters).first()
    return None if row is None else _claimed(row)


def record_push(connection: Connection, claimed: ClaimedPush, *, now: datetime, **changes: object) -> None:
    """Set columns of a push that this worker holds, and renew the lease; `lease_until=None` releases it.

    Raises:
        LeaseLostError: another worker has the push.
    """
    values = {"lease_until": now + LEASE, "changed_at": now, **changes}
    _update_held(connection, claimed, ", ".join(f"{name} = :{name}" for name in values), values)


def park_push(connection: Connection, claimed: ClaimedPush, *, now: datetime, **changes: object) -> None:
    """Set columns and release a push that needs nothing more, unless it was woken since it was claimed.

    A push that was woken stays due: Stripe may have been read before the change that woke it.

    Raises:
        LeaseLostError: another worker has the push.
    """
    values = {"lease_until": None, "changed_at": now, **changes}
    columns = ", ".join(f"{name} = :{name}" for name in values)
    parked = "due_at = CASE WHEN due_at IS DISTINCT FROM CAST(:claimed_due_at AS timestamptz) THEN due_at END"
    _update_held(connection, claimed, f"{columns}, {parked}", {**values, "claimed_due_at": claimed.due_at})


def release_push(connection: Connection, claimed: ClaimedPush) -> None:
    """Release a push, if this worker still holds it."""
    with suppress(LeaseLostError):
        _update_held(connection, claimed, "lease_until = NULL", {})


def _update_held(
    connection: Connection, claimed: ClaimedPush, assignments: str, values: Mapping[str, object]
) -> None:
    """Update the row under its fence. `assignments` holds only column names from this code, never input."""
    update = f"""
        UPDATE invoice_pushes SET {assignments}
        WHERE customer_id = :push_customer_id AND invoice_id = :push_invoice_id AND fence = :push_fence
    """
    held = {
        "push_customer_id": claimed.customer_id,
        "push_invoice_id": claimed.invoice_id,
        "push_fence": claimed.fence,
    }
    if connection.execute(text(update), {**values, **held}).rowcount != 1:
        raise LeaseLostError(f"invoice {claimed.invoice_id}: another worker is pushing it")


_STATE = text("SELECT state FROM invoice_pushes WHERE customer_id = :customer_id AND invoice_id = :invoice_id")


def push_state(connection: Connection, *, customer_id: str, invoice_id: str) -> PushState:
    """The state of a push; it must exist."""
    key = {"customer_id": customer_id, "invoice_id": invoice_id}
    return PushState(connection.execute(_STATE, key).scalar_one())


_WAKE_LINKED = text(
    """
    UPDATE invoice_pushes SET state = 'pending', due_at = :now, problem = NULL, failures = 0, changed_at = :now
    WHERE customer_id = :customer_id AND state IN ('unlinked', 'stuck')
    """
)


def wake_linked(connection: Connection, *, customer_id: str, now: datetime) -> int:
    """Make a customer's unlinked and stuck pushes due; returns how many."""
    return connection.execute(_WAKE_LINKED, {"customer_id": customer_id, "now": now}).rowcount


_WAKE_MONTH = text(
    """
    UPDATE invoice_pushes SET due_at = :now, problem = NULL, failures = 0, attempts = 0, changed_at = :now,
           state = CASE WHEN state IN ('unlinked', 'stuck') THEN 'pending' ELSE state END
    WHERE period <= :period AND (CAST(:only AS text) IS NULL OR customer_id = :only)
      AND (state IN ('unlinked', 'stuck') OR state = ANY(:under_way) AND lease_until IS NULL)
    """
)


def wake_month(connection: Connection, *, period: str, now: datetime, only: str | None = None) -> int:
    """Make the pushes due of months up to this one that wait, or need attention; returns how many.

    `only` names one customer.
    """
    parameters = {"period": period, "now": now, "under_way": sorted(UNDER_WAY), "only": only}
    return connection.execute(_WAKE_MONTH, parameters).rowcount


_RELINKED = text(
    """
    UPDATE invoice_pushes p SET relinked_to = r.relinked_to
    FROM json_to_recordset(CAST(:rows AS json)) AS r (customer_id text, invoice_id text, relinked_to text)
    WHERE p.customer_id = r.customer_id AND p.invoice_id = r.invoice_id
    """
)


def record_relinked(connection: Connection, rows: Sequence[Mapping[str, str]]) -> None:
    """Record the links for which invoices were reported to belong to a former Stripe customer.

    Each row has customer_id, invoice_id and relinked_to.
    """
    connection.execute(_RELINKED, {"rows": json_rows(rows)})


def read_back_columns(read_back: ReadBack) -> Mapping[str, object]:
    """What was read of an invoice at Stripe, as columns of its push."""
    return {
        "finalized_at": read_back.finalized_at,
        "payment_due_at": read_back.payment_due_at,
        "paid_at": read_back.paid_at,
        "bill_to": json_value(read_back.bill_to),
    }


_READ_BACK = text(
    """
    UPDATE invoice_pushes p
    SET finalized_at = r.finalized_at, payment_due_at = r.payment_due_at, paid_at = r.paid_at,
        bill_to = CAST(r.bill_to AS json)
    FROM json_to_recordset(CAST(:rows AS json)) AS r (
        customer_id text, invoice_id text, state text, finalized_at timestamptz, payment_due_at timestamptz,
        paid_at timestamptz, bill_to text)
    WHERE p.customer_id = r.customer_id AND p.invoice_id = r.invoice_id AND p.state = r.state
    """
)


def record_read_back(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """Record what was read of invoices at Stripe, if their states are still those that were read.

    Each row has customer_id, invoice_id, state and the columns of `read_back_columns`.
    """
    if rows:
        connection.execute(_READ_BACK, {"rows": json_rows(rows)})


_WAKE = text(
    "UPDATE invoice_pushes SET due_at = :now WHERE stripe_invoice_id = :stripe_invoice_id RETURNING invoice_id"
)


def wake_pushes_of(connection: Connection, *, stripe_invoice_id: str, now: datetime) -> list[str]:
    """Make the pushes of this Stripe invoice due, so that a worker reads it; returns the ids of our invoices."""
    rows = connection.execute(_WAKE, {"stripe_invoice_id": stripe_invoice_id, "now": now})
    return list(rows.scalars())


def _claimed(row: object) -> ClaimedPush:
    given = dict(row._mapping)  # type: ignore[attr-defined]
    return ClaimedPush(**{**given, "state": PushState(given["state"])})


_ADD_EVENT = text(
    """
    INSERT INTO stripe_events (stripe_event_id, type, stripe_object_id, created_at, received_at)
    VALUES (:stripe_event_id, :type, :stripe_object_id, :created_at, :now) ON CONFLICT DO NOTHING
    """
)


def add_stripe_event(connection: Connection, event: StripeEvent, *, now: datetime) -> bool:
    """Store an event; False when it is stored already."""
    return connection.execute(_ADD_EVENT, {**asdict(event), "now": now}).rowcount == 1

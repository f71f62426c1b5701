"""Pushes: one row an invoice, how far Stripe has it. Claimed with a lease, and recorded under its fence."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, case, null, select, text, update
from sqlalchemy.dialects.postgresql import insert

from metering.core.errors import MeteringError
from metering.db.rows import copy_rows, moment
from metering.db.tables import invoice_pushes, stripe_events
from metering.months.invoice import Invoice
from metering.stripe.push import UNDER_WAY, PushState
from metering.stripe.snapshot import StripeEvent

# Longer than any one call to Stripe takes; renewed before each.
LEASE = timedelta(seconds=60)

_COPY = "COPY invoice_pushes (customer_id, invoice_id, period, state, due_at, changed_at) FROM STDIN"


class LeaseLostError(MeteringError):
    """Another worker has taken this push over: stop, and write nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedPush:
    """A push that this worker has for as long as its fence is the row's."""

    customer_id: str
    invoice_id: str
    fence: int
    state: PushState
    version: int
    stripe_invoice_id: str | None
    attempts: int
    failures: int
    due_at: datetime | None


def add_pushes(connection: Connection, invoices: Sequence[Invoice], now: datetime) -> None:
    """Have new invoices pushed; one that bills nothing is deferred."""
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


# A customer's invoices go one after another, so that nothing is written to one customer from two places.
_CLAIM = text(
    """
    UPDATE invoice_pushes p SET lease_until = :until, fence = p.fence + 1 FROM (
        SELECT s.customer_id, s.invoice_id FROM invoice_pushes s
        WHERE s.due_at <= :now AND (s.lease_until IS NULL OR s.lease_until < :now)
          AND (CAST(:period AS text) IS NULL OR s.period <= :period)
          AND (CAST(:only AS text) IS NULL OR s.customer_id = :only)
          AND NOT EXISTS (SELECT FROM invoice_pushes e WHERE e.customer_id = s.customer_id
                          AND e.period < s.period AND e.state = ANY(:under_way))
        ORDER BY s.due_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ) AS claimed
    WHERE p.customer_id = claimed.customer_id AND p.invoice_id = claimed.invoice_id
    RETURNING p.customer_id, p.invoice_id, p.fence, p.state, p.version, p.stripe_invoice_id, p.attempts,
              p.failures, p.due_at
    """
)


def claim_pushes(
    connection: Connection, *, now: datetime, limit: int, period: str | None = None, only: str | None = None
) -> list[ClaimedPush]:
    """Lease up to `limit` due pushes, of months up to `period` and of one customer where given."""
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
              p.failures, p.due_at
    """
)


def claim_push(connection: Connection, *, customer_id: str, invoice_id: str, now: datetime) -> ClaimedPush | None:
    """Lease one push, due or not; None while another worker has it."""
    parameters = {"customer_id": customer_id, "invoice_id": invoice_id, "now": now, "until": now + LEASE}
    row = connection.execute(_CLAIM_ONE, parameters).first()
    return None if row is None else _claimed(row)


def record_push(connection: Connection, claimed: ClaimedPush, *, now: datetime, **changes: object) -> None:
    """Set columns of a push that is held, and renew the lease; `lease_until=None` gives it back.

    Raises:
        LeaseLostError: another worker has it.
    """
    values = {"lease_until": now + LEASE, "changed_at": now, **changes}
    statement = (
        update(invoice_pushes)
        .where(
            invoice_pushes.c.customer_id == claimed.customer_id,
            invoice_pushes.c.invoice_id == claimed.invoice_id,
            invoice_pushes.c.fence == claimed.fence,
        )
        .values(**values)
    )
    if connection.execute(statement).rowcount != 1:
        raise LeaseLostError(f"invoice {claimed.invoice_id}: another worker pushes it")


def rest_push(connection: Connection, claimed: ClaimedPush, *, now: datetime, **changes: object) -> None:
    """Set columns and give a push back: nothing more is to be done, unless it was woken since it was claimed.

    Stripe may have been read before what woke it happened there.

    Raises:
        LeaseLostError: another worker has it.
    """
    due_at = invoice_pushes.c.due_at
    woken = due_at.is_distinct_from(claimed.due_at)
    rest = {"due_at": case((woken, due_at), else_=null()), "lease_until": None}
    record_push(connection, claimed, now=now, **rest, **changes)


def push_state(connection: Connection, *, customer_id: str, invoice_id: str) -> PushState:
    """Where a push is."""
    query = select(invoice_pushes.c.state).where(
        invoice_pushes.c.customer_id == customer_id, invoice_pushes.c.invoice_id == invoice_id
    )
    return PushState(connection.execute(query).scalar_one())


def release_push(connection: Connection, claimed: ClaimedPush) -> None:
    """Give a push back, if it is still held."""
    connection.execute(
        update(invoice_pushes)
        .where(
            invoice_pushes.c.customer_id == claimed.customer_id,
            invoice_pushes.c.invoice_id == claimed.invoice_id,
            invoice_pushes.c.fence == claimed.fence,
        )
        .values(lease_until=None)
    )


_WAKE_LINKED = text(
    """
    UPDATE invoice_pushes SET state = 'pending', due_at = :now, problem = NULL, failures = 0, changed_at = :now
    WHERE customer_id = :customer_id AND state IN ('unlinked', 'stuck')
    """
)


def wake_linked(connection: Connection, *, customer_id: str, now: datetime) -> int:
    """Have a customer's invoices pushed that waited for its Stripe id; returns how many."""
    return connection.execute(_WAKE_LINKED, {"customer_id": customer_id, "now": now}).rowcount


_WAKE = text(
    "UPDATE invoice_pushes SET due_at = :now WHERE stripe_invoice_id = :stripe_invoice_id RETURNING invoice_id"
)


def wake_pushes_of(connection: Connection, *, stripe_invoice_id: str, now: datetime) -> list[str]:
    """Have somebody look at what became of this invoice at Stripe; the ids of ours that it is of."""
    rows = connection.execute(_WAKE, {"stripe_invoice_id": stripe_invoice_id, "now": now})
    return list(rows.scalars())


def _claimed(row: object) -> ClaimedPush:
    given = dict(row._mapping)  # type: ignore[attr-defined]
    return ClaimedPush(**{**given, "state": PushState(given["state"])})


def add_stripe_event(connection: Connection, event: StripeEvent, *, now: datetime) -> bool:
    """Keep an event; whether it was new."""
    statement = (
        insert(stripe_events)
        .values(
            stripe_event_id=event.stripe_event_id,
            type=event.type,
            stripe_object_id=event.stripe_object_id,
            created_at=event.created_at,
            received_at=now,
        )
        .on_conflict_do_nothing()
        .returning(stripe_events.c.stripe_event_id)
    )
    return connection.execute(statement).first() is not None

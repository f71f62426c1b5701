"""Queries for the state of pushes, and for the findings of reconciliations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from metering.stripe.bill_to import BillTo, stored_bill_to
from metering.stripe.push import UNDER_WAY, PushState


@dataclass(frozen=True, slots=True, kw_only=True)
class PushView:
    """The state of an invoice's push; `problem` says why it does not advance.

    The dates from `finalized_at` on, the customer that has it and `bill_to` are as Stripe was last read.
    """

    state: PushState
    stripe_invoice_id: str | None
    stripe_number: str | None
    stripe_url: str | None
    problem: str | None
    changed_at: datetime
    stripe_customer_id: str | None
    finalized_at: datetime | None
    payment_due_at: datetime | None
    paid_at: datetime | None
    bill_to: BillTo | None


_HAS_DUE = text(
    """
    SELECT EXISTS (SELECT 1 FROM invoice_pushes
                   WHERE due_at <= :now AND (lease_until IS NULL OR lease_until < :now))
    """
)


def has_due_push(connection: Connection, *, now: datetime) -> bool:
    """Whether a push is due that no worker holds; one of an earlier month may still hold it up."""
    return bool(connection.execute(_HAS_DUE, {"now": now}).scalar_one())


_PUSHES = text(
    """
    SELECT p.invoice_id, p.state, p.stripe_invoice_id, p.stripe_number, p.stripe_url, p.problem, p.changed_at,
           p.stripe_customer_id, p.finalized_at, p.payment_due_at, p.paid_at, p.bill_to::text AS bill_to
    FROM unnest(CAST(:customer_ids AS text[]), CAST(:invoice_ids AS text[])) AS wanted (customer_id, invoice_id)
    JOIN invoice_pushes p USING (customer_id, invoice_id)
    """
)


def push_views(connection: Connection, keys: Sequence[tuple[str, str]]) -> Mapping[str, PushView]:
    """The pushes of these (customer_id, invoice_id), by invoice id."""
    parameters = {
        "customer_ids": [customer_id for customer_id, _ in keys],
        "invoice_ids": [invoice_id for _, invoice_id in keys],
    }
    return {
        row.invoice_id: PushView(
            state=PushState(row.state),
            stripe_invoice_id=row.stripe_invoice_id,
            stripe_number=row.stripe_number,
            stripe_url=row.stripe_url,
            problem=row.problem,
            changed_at=row.changed_at,
            stripe_customer_id=row.stripe_customer_id,
            finalized_at=row.finalized_at,
            payment_due_at=row.payment_due_at,
            paid_at=row.paid_at,
            bill_to=stored_bill_to(row.bill_to),
        )
        for row in connection.execute(_PUSHES, parameters)
    }


_PUSHED = text(
    """
    SELECT min(coalesce(answered_at, sent_at)) FROM stripe_operations
    WHERE customer_id = :customer_id AND invoice_id = :invoice_id AND operation = 'create' AND outcome = 'done'
    """
)


def pushed_at(connection: Connection, *, customer_id: str, invoice_id: str) -> datetime | None:
    """When the invoice was created at Stripe; None before, and where that is not known."""
    at: datetime | None = connection.execute(
        _PUSHED, {"customer_id": customer_id, "invoice_id": invoice_id}
    ).scalar_one()
    return at


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftView:
    """A finding of a reconciliation. `drift_cents` is what Stripe had minus what it should have had."""

    reconciliation_id: str
    finding: int
    found_at: datetime
    customer_id: str | None
    invoice_id: str | None
    period: str | None
    stripe_invoice_id: str | None
    drift_class: str
    finalized: bool
    drift_cents: int
    detail: str
    remedy: str
    repaired_at: datetime | None
    repair: str | None


_DRIFT = text(
    """
    SELECT reconciliation_id, finding, found_at, customer_id, invoice_id, period, stripe_invoice_id, drift_class,
           finalized, drift_cents, detail, remedy, repaired_at, repair
    FROM drift_findings
    WHERE (CAST(:customer_id AS text) IS NULL OR customer_id = :customer_id)
      AND (CAST(:period AS text) IS NULL OR period = :period)
      AND (CAST(:reconciliation_id AS text) IS NULL OR reconciliation_id = :reconciliation_id)
      AND (CAST(:before AS timestamptz) IS NULL
           OR (found_at, reconciliation_id, finding) < (:before, :before_id, :before_finding))
    ORDER BY found_at DESC, reconciliation_id DESC, finding DESC LIMIT :limit
    """
)


def list_drift(
    connection: Connection,
    *,
    customer_id: str | None,
    period: str | None,
    reconciliation_id: str | None,
    before: tuple[datetime, str, int] | None,
    limit: int,
) -> Sequence[DriftView]:
    """Up to `limit` findings, the newest first, that come after the position `before`.

    A position is (found_at, reconciliation_id, finding). None does not filter.
    """
    found_at, before_id, before_finding = before or (None, None, None)
    rows = connection.execute(
        _DRIFT,
        {
            "customer_id": customer_id,
            "period": period,
            "reconciliation_id": reconciliation_id,
            "before": found_at,
            "before_id": before_id,
            "before_finding": before_finding,
            "limit": limit,
        },
    )
    return [DriftView(**row._mapping) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePushes:
    """The number of invoices whose push is in a state, and the cents that they bill."""

    state: PushState
    count: int
    billed_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An invoice that is not final at Stripe; `problem` says why it does not advance."""

    customer_id: str
    invoice_id: str
    period: str
    state: PushState
    problem: str | None


_BY_STATE = text(
    """
    SELECT p.state, count(*) AS count, sum(i.billed_cents) AS billed_cents
    FROM invoice_pushes p JOIN invoices i ON i.customer_id = p.customer_id AND i.invoice_id = p.invoice_id
    WHERE p.period = :period AND (CAST(:only AS text) IS NULL OR p.customer_id = :only)
    GROUP BY p.state ORDER BY p.state
    """
)


def pushes_by_state(connection: Connection, *, period: str, only: str | None) -> Sequence[StatePushes]:
    """The invoices of a month by push state, of one customer or of all (None)."""
    rows = connection.execute(_BY_STATE, {"period": period, "only": only})
    return [
        StatePushes(state=PushState(row.state), count=row._mapping["count"], billed_cents=int(row.billed_cents))
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """The number of pushes in progress, and when the next one can be claimed; None when there is none."""

    count: int
    next_at: datetime | None


_UNDER_WAY = text(
    """
    SELECT count(*) AS count, min(greatest(due_at, coalesce(lease_until, due_at))) AS next_at
    FROM invoice_pushes WHERE period <= :period AND state = ANY(:under_way)
      AND (CAST(:only AS text) IS NULL OR customer_id = :only)
    """
)


def pushes_under_way(connection: Connection, *, period: str, only: str | None) -> UnderWay:
    """The pushes in progress of months up to `period`, of one customer or of all (None)."""
    parameters = {"period": period, "only": only, "under_way": sorted(UNDER_WAY)}
    row = connection.execute(_UNDER_WAY, parameters).one()
    return UnderWay(count=row._mapping["count"], next_at=row.next_at)


_WAITING = text(
    """
    SELECT customer_id, invoice_id, period, state, problem FROM invoice_pushes
    WHERE period <= :period AND state NOT IN ('final', 'paid', 'deferred')
      AND (CAST(:only AS text) IS NULL OR customer_id = :only)
    ORDER BY period, customer_id LIMIT :limit
    """
)


def list_waiting(connection: Connection, *, period: str, only: str | None, limit: int) -> Sequence[Waiting]:
    """Up to `limit` invoices of months up to `period` that are neither final nor paid nor deferred."""
    rows = connection.execute(_WAITING, {"period": period, "only": only, "limit": limit})
    return [Waiting(**{**row._mapping, "state": PushState(row.state)}) for row in rows]


# All states of the newest month; of earlier months only the pushes that still need writes or a person.
_STANDING = text(
    """
    WITH newest AS (SELECT max(period) AS period FROM invoice_pushes)
    SELECT standing.state, count(*) AS count, CAST(sum(i.billed_cents) AS bigint) AS billed_cents FROM (
        (SELECT customer_id, invoice_id, state FROM invoice_pushes
         WHERE period = (SELECT period FROM newest) LIMIT 100000)
        UNION ALL
        (SELECT customer_id, invoice_id, state FROM invoice_pushes
         WHERE period < (SELECT period FROM newest)
           AND state NOT IN ('final', 'paid', 'void', 'uncollectible', 'deferred') LIMIT 100000)
    ) AS standing JOIN invoices i USING (customer_id, invoice_id) GROUP BY standing.state
    """
)


def standing_pushes(connection: Connection) -> Sequence[StatePushes]:
    """By state, the invoices of the newest month, and the invoices of earlier months that are not at Stripe yet.

    Deferred invoices of earlier months are left out. Counts up to 100,000 of each.
    """
    rows = connection.execute(_STANDING)
    return [
        StatePushes(state=PushState(row.state), count=row._mapping["count"], billed_cents=row.billed_cents)
        for row in rows
    ]

"""Queries for the invoices that Stripe should have, with their push state, and for what reconciliations found.

Stripe should have an invoice that bills more than 0 cents; below, that is a billed invoice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from metering.months.queries.invoices import get_invoices
from metering.months.store.invoices import StoredInvoice
from metering.stripe.bill_to import stored_bill_to
from metering.stripe.push import PushState, owner_of
from metering.stripe.snapshot import ReadBack


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciledInvoice:
    """A billed invoice, with its push state and its Stripe ids.

    `pushed_to` is the Stripe customer that it was written to, `stripe_customer_id` the one that its customer is
    linked to now. `relinked_to` is the link for which it was reported that they differ. `read_back` is what
    was last read of it.
    """

    stored: StoredInvoice
    state: PushState
    stripe_invoice_id: str | None
    stripe_customer_id: str | None
    pushed_to: str | None
    relinked_to: str | None
    read_back: ReadBack

    @property
    def belongs_to(self) -> str | None:
        """The Stripe customer that should have it: once it is final, the one that it was written to."""
        return owner_of(self.state, pushed_to=self.pushed_to, linked=self.stripe_customer_id)


_SCOPE = "i.billed_cents > 0 AND (CAST(:period AS text) IS NULL OR i.period = :period)"


def oldest_billed(connection: Connection, *, period: str | None) -> datetime | None:
    """When Stripe may have got the first billed invoice of a month, or of all (None); None when there is none.

    An invoice is created after its month has ended, and created again if the database was restored in between.
    """
    query = text(
        f"""
        SELECT min(least(i.created_at, b.ends_at))
        FROM invoices i JOIN billing_periods b USING (customer_id, period) WHERE {_SCOPE}
        """
    )
    oldest: datetime | None = connection.execute(query, {"period": period}).scalar_one()
    return oldest


def newest_billed(connection: Connection) -> str | None:
    """The last month with a billed invoice, or None."""
    query = text(f"SELECT i.period FROM invoices i WHERE {_SCOPE} ORDER BY i.period DESC LIMIT 1")
    period: str | None = connection.execute(query, {"period": None}).scalar_one_or_none()
    return period


_LAST = text(
    """
    SELECT max(started_at) FROM reconciliations
    WHERE finished_at IS NOT NULL AND (period IS NULL OR period = :period)
    """
)


def last_reconciled(connection: Connection, *, period: str) -> datetime | None:
    """When the last finished reconciliation of a month started; None when there is none."""
    last: datetime | None = connection.execute(_LAST, {"period": period}).scalar_one()
    return last


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftLeft:
    """The open findings of a class, and the sum of their absolute differences in whole cents."""

    drift_class: str
    findings: int
    cents: int


# The same rule as `still_there` in the view reporting.drift, but it begins with the few reconciliations that can
# have open findings.
_DRIFT_LEFT = text(
    """
    WITH compared AS (
        SELECT period, max(started_at) AS started_at FROM reconciliations
        WHERE finished_at IS NOT NULL GROUP BY period
    ), newest AS (
        SELECT r.reconciliation_id, r.started_at FROM reconciliations r
        JOIN compared c ON c.period IS NOT DISTINCT FROM r.period AND c.started_at = r.started_at
        WHERE r.finished_at IS NOT NULL
          AND r.started_at >= coalesce((SELECT started_at FROM compared WHERE period IS NULL), r.started_at)
    )
    SELECT f.drift_class, count(*) AS findings, CAST(sum(abs(f.drift_cents)) AS bigint) AS cents
    FROM newest n JOIN drift_findings f ON f.reconciliation_id = n.reconciliation_id
    LEFT JOIN compared m ON m.period = f.period
    WHERE f.repaired_at IS NULL AND (m.started_at IS NULL OR n.started_at >= m.started_at)
    GROUP BY f.drift_class
    """
)


def drift_left(connection: Connection) -> Sequence[DriftLeft]:
    """The open findings by class: not repaired, and from the last reconciliation that compared their month."""
    return [DriftLeft(**row._mapping) for row in connection.execute(_DRIFT_LEFT)]


def reconciled_at(connection: Connection) -> datetime | None:
    """When the last reconciliation of any month finished; None when there was none."""
    at: datetime | None = connection.execute(text("SELECT max(finished_at) FROM reconciliations")).scalar_one()
    return at


def count_billed(connection: Connection, *, period: str | None) -> int:
    """The number of billed invoices of a month, or of all (None)."""
    query = text(f"SELECT count(*) FROM invoices i WHERE {_SCOPE}")
    count: int = connection.execute(query, {"period": period}).scalar_one()
    return count


_BILLED = text(
    f"""
    SELECT i.customer_id, i.invoice_id, p.state, p.stripe_invoice_id, c.stripe_customer_id,
           p.stripe_customer_id AS pushed_to, p.relinked_to, p.finalized_at, p.payment_due_at, p.paid_at,
           p.bill_to::text AS bill_to
    FROM invoices i JOIN invoice_pushes p USING (customer_id, invoice_id) JOIN customers c USING (customer_id)
    WHERE {_SCOPE} AND (CAST(:after AS text) IS NULL OR (i.period, i.customer_id) > (:after, :after_customer))
    ORDER BY i.period, i.customer_id LIMIT :limit
    """
)


def list_billed(
    connection: Connection, *, period: str | None, after: tuple[str, str] | None, limit: int
) -> Sequence[ReconciledInvoice]:
    """Up to `limit` billed invoices by month and customer, after the position `after`: (period, customer_id)."""
    after_period, after_customer = after or (None, None)
    rows = connection.execute(
        _BILLED,
        {"period": period, "after": after_period, "after_customer": after_customer, "limit": limit},
    ).all()
    stored = get_invoices(connection, [(row.customer_id, row.invoice_id) for row in rows])
    return [
        ReconciledInvoice(
            stored=stored[row.invoice_id],
            state=PushState(row.state),
            stripe_invoice_id=row.stripe_invoice_id,
            stripe_customer_id=row.stripe_customer_id,
            pushed_to=row.pushed_to,
            relinked_to=row.relinked_to,
            read_back=ReadBack(
                finalized_at=row.finalized_at,
                payment_due_at=row.payment_due_at,
                paid_at=row.paid_at,
                bill_to=stored_bill_to(row.bill_to),
            ),
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationView:
    """A finished reconciliation. `found` counts its findings, `left` those of them that were not repaired.

    `ours_cents` and `theirs_cents` are the sums of all compared invoices, in whole cents. `problem` says why a
    repair was not attempted.
    """

    reconciliation_id: str
    period: str | None
    requested_by: str
    started_at: datetime
    compared: int
    ours_cents: int
    theirs_cents: int
    found: int
    left: int
    problem: str | None


_RECONCILIATIONS = text(
    """
    SELECT r.reconciliation_id, r.period, r.requested_by, r.started_at, r.compared, r.ours_cents, r.theirs_cents,
           r.problem, f.found, f.left_
    FROM reconciliations r CROSS JOIN LATERAL (
        SELECT count(*) AS found, count(*) FILTER (WHERE repaired_at IS NULL) AS left_
        FROM drift_findings d WHERE d.reconciliation_id = r.reconciliation_id) AS f
    WHERE r.finished_at IS NOT NULL ORDER BY r.started_at DESC LIMIT :limit
    """
)


def last_reconciliations(connection: Connection, *, limit: int) -> list[ReconciliationView]:
    """Up to `limit` finished reconciliations, the newest first."""
    return [
        ReconciliationView(
            reconciliation_id=row.reconciliation_id,
            period=row.period,
            requested_by=row.requested_by,
            started_at=row.started_at,
            compared=row.compared,
            ours_cents=row.ours_cents,
            theirs_cents=row.theirs_cents,
            found=row.found,
            left=row.left_,
            problem=row.problem,
        )
        for row in connection.execute(_RECONCILIATIONS, {"limit": limit})
    ]

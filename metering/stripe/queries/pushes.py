"""Where invoices are at Stripe, and what reconciliations found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from metering.stripe.push import PushState


@dataclass(frozen=True, slots=True, kw_only=True)
class PushView:
    """How far Stripe has an invoice; `problem` is what keeps it there."""

    state: PushState
    stripe_invoice_id: str | None
    stripe_number: str | None
    stripe_url: str | None
    problem: str | None
    changed_at: datetime


_PUSHES = text(
    """
    SELECT p.invoice_id, p.state, p.stripe_invoice_id, p.stripe_number, p.stripe_url, p.problem, p.changed_at
    FROM unnest(CAST(:customer_ids AS text[]), CAST(:invoice_ids AS text[])) AS wanted (customer_id, invoice_id)
    JOIN invoice_pushes p USING (customer_id, invoice_id)
    """
)


def push_views(connection: Connection, keys: Sequence[tuple[str, str]]) -> Mapping[str, PushView]:
    """Of these (customer_id, invoice_id), by the latter."""
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
        )
        for row in connection.execute(_PUSHES, parameters)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftView:
    """A finding of a reconciliation. `drift_cents` is what Stripe had too much, or below zero too little."""

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
    """Findings, the newest first, behind the position (found_at, reconciliation_id, finding)."""
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

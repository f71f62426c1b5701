"""What a month's invoices come to, and what the last reconciliation found: the two sums finance looks at."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoiced:
    """The invoices of a month, or of one customer in it: how many, what they bill, what they carry on."""

    count: int
    billed_cents: int
    remainder_usd_cents: Decimal


_INVOICED = text(
    """
    SELECT count(*) AS count, CAST(coalesce(sum(billed_cents), 0) AS bigint) AS billed_cents,
           coalesce(sum(remainder_usd_cents), 0) AS remainder_usd_cents
    FROM invoices WHERE period = :period AND (CAST(:customer_id AS text) IS NULL OR customer_id = :customer_id)
    """
)


def invoiced(connection: Connection, *, period: str, customer_id: str | None) -> Invoiced:
    """What was invoiced for a month."""
    row = connection.execute(_INVOICED, {"period": period, "customer_id": customer_id}).one()
    return Invoiced(**row._mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationView:
    """One that came to its end. `left` counts the findings that nobody repaired."""

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
    """The last reconciliations that came to their end, the newest first."""
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

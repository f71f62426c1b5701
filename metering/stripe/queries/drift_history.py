"""The history of drift: each difference once, however many reconciliations found it, with both totals."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, text


class DriftStatus(StrEnum):
    """Whether a difference is still there. `GONE`: a later reconciliation of its month did not find it again."""

    OPEN = "open"
    REPAIRED = "repaired"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftEpisode:
    """A difference from when it was first found until it was repaired.

    `ours_cents` is what the invoice bills, None if it is none of ours; `theirs_cents` what Stripe has for it in
    all; `drift_cents` is this difference. The position in the list is that of the last finding.
    """

    customer_id: str | None
    invoice_id: str | None
    number: str | None
    period: str | None
    stripe_invoice_id: str | None
    stripe_url: str | None
    drift_class: str
    detail: str
    remedy: str
    repair: str | None
    drift_cents: int
    ours_cents: int | None
    theirs_cents: int
    times: int
    first_seen: datetime
    last_seen: datetime
    repaired_at: datetime | None
    status: DriftStatus
    reconciliation_id: str
    finding: int


# A difference that is found again after its repair is another one. Findings are few: no index serves this.
_EPISODES = text(
    """
    WITH compared AS (
        SELECT period, max(started_at) AS started_at FROM reconciliations
        WHERE finished_at IS NOT NULL GROUP BY period
    ), found AS (
        SELECT f.*, coalesce(f.invoice_id, f.stripe_invoice_id, '') AS whose,
               sum(f.drift_cents) OVER (
                   PARTITION BY f.reconciliation_id, coalesce(f.invoice_id, f.stripe_invoice_id, '')) AS all_cents
        FROM drift_findings f
        WHERE (CAST(:customer_id AS text) IS NULL OR f.customer_id = :customer_id)
          AND (CAST(:period AS text) IS NULL OR f.period = :period)
    ), numbered AS (
        SELECT found.*, coalesce(count(repaired_at) OVER (
                   PARTITION BY whose, stripe_invoice_id, drift_class, drift_cents, detail
                   ORDER BY found_at, reconciliation_id, finding
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS episode
        FROM found
    ), episodes AS (
        SELECT DISTINCT ON (whose, stripe_invoice_id, drift_class, drift_cents, detail, episode) numbered.*,
               min(found_at) OVER same AS first_seen, count(*) OVER same AS times,
               bool_or(reconciliation_id = CAST(:reconciliation_id AS text)) OVER same AS is_wanted
        FROM numbered
        WINDOW same AS (PARTITION BY whose, stripe_invoice_id, drift_class, drift_cents, detail, episode)
        ORDER BY whose, stripe_invoice_id, drift_class, drift_cents, detail, episode,
                 found_at DESC, reconciliation_id DESC, finding DESC
    )
    SELECT e.customer_id, e.invoice_id, i.number, e.period, e.stripe_invoice_id, p.stripe_url, e.drift_class,
           e.detail, e.remedy, e.repair, e.drift_cents, i.billed_cents AS ours_cents,
           CAST(coalesce(i.billed_cents, 0) + e.all_cents AS bigint) AS theirs_cents, e.times, e.first_seen,
           e.found_at AS last_seen, e.repaired_at, e.reconciliation_id, e.finding,
           CASE WHEN e.repaired_at IS NOT NULL THEN 'repaired'
                WHEN r.started_at < greatest(month.started_at, everything.started_at) THEN 'gone'
                ELSE 'open' END AS status
    FROM episodes e
    JOIN reconciliations r ON r.reconciliation_id = e.reconciliation_id
    LEFT JOIN compared month ON month.period = e.period
    LEFT JOIN compared everything ON everything.period IS NULL
    LEFT JOIN invoices i ON i.customer_id = e.customer_id AND i.invoice_id = e.invoice_id
    LEFT JOIN invoice_pushes p ON p.customer_id = e.customer_id AND p.invoice_id = e.invoice_id
        AND p.stripe_invoice_id = e.stripe_invoice_id
    WHERE (CAST(:reconciliation_id AS text) IS NULL OR e.is_wanted)
      AND (CAST(:before AS timestamptz) IS NULL
           OR (e.found_at, e.reconciliation_id, e.finding) < (:before, :before_id, :before_finding))
    ORDER BY e.found_at DESC, e.reconciliation_id DESC, e.finding DESC LIMIT :limit
    """
)


def list_drift_history(
    connection: Connection,
    *,
    customer_id: str | None,
    period: str | None,
    reconciliation_id: str | None,
    before: tuple[datetime, str, int] | None,
    limit: int,
) -> Sequence[DriftEpisode]:
    """Up to `limit` differences, those that were found last first, after the position `before`.

    A position is (last_seen, reconciliation_id, finding). None does not filter.
    """
    at, before_id, before_finding = before or (None, None, None)
    parameters = {
        "customer_id": customer_id,
        "period": period,
        "reconciliation_id": reconciliation_id,
        "before": at,
        "before_id": before_id,
        "before_finding": before_finding,
        "limit": limit,
    }
    rows = connection.execute(_EPISODES, parameters)
    return [DriftEpisode(**{**row._mapping, "status": DriftStatus(row.status)}) for row in rows]

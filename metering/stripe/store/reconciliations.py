"""SQL that writes reconciliations: snapshots of Stripe's invoices, findings and repairs. Findings are kept."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, text

from metering.db.rows import json_value
from metering.stripe.drift import Finding
from metering.stripe.push import Mark
from metering.stripe.snapshot import Snapshot

_decode = msgspec.json.Decoder(Snapshot).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDrift:
    """A finding with its number in the reconciliation, and its invoice; None when it belongs to none of ours."""

    number: int
    customer_id: str | None
    invoice_id: str | None
    period: str | None
    finding: Finding


# Snapshots are kept while they are compared. A reconciliation that takes longer than this has died.
_LONGEST = timedelta(days=1)
_PRUNE = text(
    """
    DELETE FROM stripe_snapshots WHERE reconciliation_id IN (
        SELECT reconciliation_id FROM reconciliations WHERE started_at < :before)
    """
)
_START = text(
    """
    INSERT INTO reconciliations (reconciliation_id, period, repair, requested_by, started_at)
    VALUES (:reconciliation_id, :period, :repair, :requested_by, :now)
    """
)


def start_reconciliation(
    connection: Connection, *, period: str | None, repair: bool, requested_by: str, now: datetime
) -> str:
    """Start a reconciliation; returns its id. Snapshots of reconciliations that died are deleted."""
    reconciliation_id = f"rec_{secrets.token_hex(8)}"
    connection.execute(_PRUNE, {"before": now - _LONGEST})
    parameters = {
        "reconciliation_id": reconciliation_id,
        "period": period,
        "repair": repair,
        "requested_by": requested_by,
        "now": now,
    }
    connection.execute(_START, parameters)
    return reconciliation_id


_ADD_SNAPSHOTS = text(
    """
    INSERT INTO stripe_snapshots (reconciliation_id, stripe_invoice_id, invoice_id, snapshot)
    VALUES (:reconciliation_id, :stripe_invoice_id, :invoice_id, CAST(:snapshot AS json))
    """
)


def add_snapshots(
    connection: Connection, reconciliation_id: str, snapshots: Sequence[tuple[Mark, Snapshot]]
) -> None:
    """Store snapshots until the reconciliation finishes."""
    if snapshots:
        rows = [
            {
                "reconciliation_id": reconciliation_id,
                "stripe_invoice_id": snapshot.stripe_invoice_id,
                "invoice_id": mark.invoice_id,
                "snapshot": json_value(snapshot),
            }
            for mark, snapshot in snapshots
        ]
        connection.execute(_ADD_SNAPSHOTS, rows)


_SNAPSHOTS = text(
    """
    SELECT invoice_id, snapshot::text AS snapshot FROM stripe_snapshots
    WHERE reconciliation_id = :reconciliation_id AND invoice_id = ANY(:invoice_ids)
    """
)


def snapshots_of(
    connection: Connection, reconciliation_id: str, invoice_ids: Sequence[str]
) -> dict[str, list[Snapshot]]:
    """The snapshots of these invoices, by invoice id."""
    found: dict[str, list[Snapshot]] = {}
    parameters = {"reconciliation_id": reconciliation_id, "invoice_ids": list(invoice_ids)}
    for row in connection.execute(_SNAPSHOTS, parameters):
        found.setdefault(row.invoice_id, []).append(_decode(row.snapshot))
    return found


_OF_NO_INVOICE = text(
    """
    WITH ours AS MATERIALIZED (
        SELECT i.invoice_id FROM invoices i WHERE i.billed_cents > 0 AND i.invoice_id IN (
            SELECT s.invoice_id FROM stripe_snapshots s WHERE s.reconciliation_id = :reconciliation_id)
    )
    SELECT s.snapshot::text AS snapshot FROM stripe_snapshots s
    WHERE s.reconciliation_id = :reconciliation_id
      AND NOT EXISTS (SELECT FROM ours WHERE ours.invoice_id = s.invoice_id)
    ORDER BY s.stripe_invoice_id
    """
)


def snapshots_of_no_invoice(connection: Connection, reconciliation_id: str) -> list[Snapshot]:
    """Snapshots with our mark that belong to no invoice that bills anything."""
    rows = connection.execute(_OF_NO_INVOICE, {"reconciliation_id": reconciliation_id})
    return [_decode(row.snapshot) for row in rows]


_ADD_FINDINGS = text(
    """
    INSERT INTO drift_findings (reconciliation_id, finding, customer_id, invoice_id, period, stripe_invoice_id,
                                drift_class, finalized, drift_cents, detail, remedy, found_at)
    VALUES (:reconciliation_id, :finding, :customer_id, :invoice_id, :period, :stripe_invoice_id, :drift_class,
            :finalized, :drift_cents, :detail, :remedy, :now)
    """
)


def add_findings(
    connection: Connection, reconciliation_id: str, found: Sequence[FoundDrift], *, now: datetime
) -> None:
    """Store findings."""
    if found:
        rows = [
            {
                "reconciliation_id": reconciliation_id,
                "finding": each.number,
                "customer_id": each.customer_id,
                "invoice_id": each.invoice_id,
                "period": each.period,
                "stripe_invoice_id": each.finding.stripe_invoice_id,
                "drift_class": each.finding.drift_class.value,
                "finalized": each.finding.finalized,
                "drift_cents": each.finding.cents,
                "detail": each.finding.detail,
                "remedy": each.finding.remedy.value,
                "now": now,
            }
            for each in found
        ]
        connection.execute(_ADD_FINDINGS, rows)


_REPAIRED = text(
    """
    UPDATE drift_findings SET repair = :repair, repaired_at = :repaired_at
    WHERE reconciliation_id = :reconciliation_id AND finding = ANY(:numbers)
    """
)


def record_repair(
    connection: Connection,
    reconciliation_id: str,
    numbers: Sequence[int],
    *,
    repair: str,
    repaired_at: datetime | None,
) -> None:
    """Record a repair of findings; `repaired_at` is None when it failed."""
    connection.execute(
        _REPAIRED,
        {
            "reconciliation_id": reconciliation_id,
            "numbers": list(numbers),
            "repair": repair,
            "repaired_at": repaired_at,
        },
    )


_FINISH = text(
    """
    UPDATE reconciliations SET finished_at = :now, compared = :compared, ours_cents = :ours_cents,
        theirs_cents = :theirs_cents, problem = :problem
    WHERE reconciliation_id = :reconciliation_id
    """
)


_DROP_SNAPSHOTS = text("DELETE FROM stripe_snapshots WHERE reconciliation_id = :reconciliation_id")


def finish_reconciliation(
    connection: Connection,
    reconciliation_id: str,
    *,
    compared: int,
    ours_cents: int,
    theirs_cents: int,
    problem: str | None,
    now: datetime,
) -> None:
    """Finish a reconciliation and delete its snapshots; `problem` says why a repair was not attempted."""
    connection.execute(_DROP_SNAPSHOTS, {"reconciliation_id": reconciliation_id})
    connection.execute(
        _FINISH,
        {
            "reconciliation_id": reconciliation_id,
            "compared": compared,
            "ours_cents": ours_cents,
            "theirs_cents": theirs_cents,
            "problem": problem,
            "now": now,
        },
    )

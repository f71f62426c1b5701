"""Reconciliations: what was fetched from Stripe, what was found, what was repaired. Findings are kept."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, insert, text

from metering.db.tables import drift_findings, reconciliations, stripe_statements
from metering.stripe.drift import Finding
from metering.stripe.push import Mark
from metering.stripe.snapshot import Statement

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Statement).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDrift:
    """A finding, of which invoice it is (None when of none of ours), and its number in the reconciliation."""

    number: int
    customer_id: str | None
    invoice_id: str | None
    period: str | None
    finding: Finding


def start_reconciliation(
    connection: Connection, *, period: str | None, repair: bool, requested_by: str, now: datetime
) -> str:
    """A new one; statements of those that died long ago are let go."""
    reconciliation_id = f"rec_{secrets.token_hex(8)}"
    connection.execute(_LET_GO, {"before": now - _LONGEST})
    connection.execute(
        insert(reconciliations).values(
            reconciliation_id=reconciliation_id,
            period=period,
            repair=repair,
            requested_by=requested_by,
            started_at=now,
        )
    )
    return reconciliation_id


# Statements are kept while they are compared; whatever takes longer has died.
_LONGEST = timedelta(days=1)
_LET_GO = text(
    """
    DELETE FROM stripe_statements WHERE reconciliation_id IN (
        SELECT reconciliation_id FROM reconciliations WHERE started_at < :before)
    """
)


def add_statements(
    connection: Connection, reconciliation_id: str, statements: Sequence[tuple[Mark, Statement]]
) -> None:
    """Keep what was fetched until it is compared."""
    if statements:
        connection.execute(
            insert(stripe_statements),
            [
                {
                    "reconciliation_id": reconciliation_id,
                    "stripe_invoice_id": statement.stripe_invoice_id,
                    "invoice_id": mark.invoice_id,
                    "statement": msgspec.json.decode(_encode(statement)),
                }
                for mark, statement in statements
            ],
        )


_STATEMENTS = text(
    """
    SELECT invoice_id, statement::text AS statement FROM stripe_statements
    WHERE reconciliation_id = :reconciliation_id AND invoice_id = ANY(:invoice_ids)
    """
)


def statements_of(
    connection: Connection, reconciliation_id: str, invoice_ids: Sequence[str]
) -> dict[str, list[Statement]]:
    """What was fetched of these invoices."""
    found: dict[str, list[Statement]] = {}
    parameters = {"reconciliation_id": reconciliation_id, "invoice_ids": list(invoice_ids)}
    for row in connection.execute(_STATEMENTS, parameters):
        found.setdefault(row.invoice_id, []).append(_decode(row.statement))
    return found


_OF_NO_INVOICE = text(
    """
    SELECT s.statement::text AS statement FROM stripe_statements s
    WHERE s.reconciliation_id = :reconciliation_id
      AND NOT EXISTS (SELECT FROM invoices i WHERE i.invoice_id = s.invoice_id AND i.billed_cents > 0)
    ORDER BY s.stripe_invoice_id
    """
)


def statements_of_no_invoice(connection: Connection, reconciliation_id: str) -> list[Statement]:
    """What bears our mark and is of no invoice that we bill."""
    rows = connection.execute(_OF_NO_INVOICE, {"reconciliation_id": reconciliation_id})
    return [_decode(row.statement) for row in rows]


def add_findings(
    connection: Connection, reconciliation_id: str, found: Sequence[FoundDrift], *, now: datetime
) -> None:
    """Keep what was found."""
    if found:
        connection.execute(
            insert(drift_findings),
            [
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
                    "found_at": now,
                }
                for each in found
            ],
        )


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
    """What was done about findings; `repaired_at` is None when it did not help."""
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


_LET_GO_OWN = text("DELETE FROM stripe_statements WHERE reconciliation_id = :reconciliation_id")


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
    """It is over, and its statements are let go; `problem` says why nothing was repaired that should have been."""
    connection.execute(_LET_GO_OWN, {"reconciliation_id": reconciliation_id})
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

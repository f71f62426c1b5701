"""Invoices that Stripe is to have, page by page, with how far it has them; and what reconciliations found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from metering.domain.push import PushState
from metering.records.invoices import StoredInvoice
from metering.totals.invoices import get_invoices


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciledInvoice:
    """An invoice that bills something, and where it is."""

    stored: StoredInvoice
    state: PushState
    stripe_invoice_id: str | None
    stripe_customer_id: str | None


_SCOPE = "i.billed_cents > 0 AND (CAST(:period AS text) IS NULL OR i.period = :period)"


def oldest_billed(connection: Connection, *, period: str | None) -> datetime | None:
    """When the first of them was made; None when there is none."""
    query = text(f"SELECT min(i.created_at) FROM invoices i WHERE {_SCOPE}")
    oldest: datetime | None = connection.execute(query, {"period": period}).scalar_one()
    return oldest


def newest_billed(connection: Connection) -> str | None:
    """The last month of which an invoice bills something."""
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
    """When a month was last compared with Stripe to the end; None when it never was."""
    last: datetime | None = connection.execute(_LAST, {"period": period}).scalar_one()
    return last


def count_billed(connection: Connection, *, period: str | None) -> int:
    """How many there are."""
    query = text(f"SELECT count(*) FROM invoices i WHERE {_SCOPE}")
    count: int = connection.execute(query, {"period": period}).scalar_one()
    return count


_BILLED = text(
    f"""
    SELECT i.customer_id, i.invoice_id, p.state, p.stripe_invoice_id, c.stripe_customer_id
    FROM invoices i JOIN invoice_pushes p USING (customer_id, invoice_id) JOIN customers c USING (customer_id)
    WHERE {_SCOPE} AND (CAST(:after AS text) IS NULL OR (i.period, i.customer_id) > (:after, :after_customer))
    ORDER BY i.period, i.customer_id LIMIT :limit
    """
)


def list_billed(
    connection: Connection, *, period: str | None, after: tuple[str, str] | None, limit: int
) -> Sequence[ReconciledInvoice]:
    """Up to `limit` of them, by month and customer, behind the position `after`."""
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
        )
        for row in rows
    ]

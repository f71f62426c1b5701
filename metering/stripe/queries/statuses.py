"""Queries for invoices by status: what finance asks of a month, and what is still to do in all months."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, text

from metering.stripe.invoice_status import NEED_ATTENTION, InvoiceStatus

_ATTENTION = ", ".join(f"'{state.value}'" for state in sorted(NEED_ATTENTION))
# As in the partial index of the few pushes that are not at their end.
_UNDER_WAY = "s.state NOT IN ('final', 'paid', 'void', 'uncollectible', 'deferred')"
# When a push `s` has a status; the same rules as `status_of`.
_CONDITIONS = {
    InvoiceStatus.ATTENTION: f"{_UNDER_WAY} AND s.state IN ({_ATTENTION})",
    InvoiceStatus.DRAFT: f"{_UNDER_WAY} AND s.state NOT IN ({_ATTENTION})",
    InvoiceStatus.PAST_DUE: "s.state = 'final' AND s.payment_due_at < :now",
    InvoiceStatus.OPEN: "s.state = 'final' AND (s.payment_due_at IS NULL OR s.payment_due_at >= :now)",
    InvoiceStatus.PAID: "s.state = 'paid'",
    InvoiceStatus.CARRIED_OVER: "s.state = 'deferred'",
    InvoiceStatus.VOID: "s.state = 'void'",
    InvoiceStatus.UNCOLLECTIBLE: "s.state = 'uncollectible'",
}
# What has to be done is little, in all months together.
TO_DO = (InvoiceStatus.PAST_DUE, InvoiceStatus.ATTENTION, InvoiceStatus.DRAFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSum:
    """The number of invoices, the cents that they bill, and what these come from, in exact cents."""

    count: int = 0
    billed_cents: int = 0
    exact_usd_cents: Decimal = Decimal(0)
    carried_in_usd_cents: Decimal = Decimal(0)
    remainder_usd_cents: Decimal = Decimal(0)


_FROM = "FROM invoice_pushes s JOIN invoices i ON i.customer_id = s.customer_id AND i.invoice_id = s.invoice_id"
_CASES = " ".join(f"WHEN {condition} THEN '{status.value}'" for status, condition in _CONDITIONS.items())
_SUMS = text(
    f"""
    SELECT CASE {_CASES} END AS status, count(*) AS count, CAST(sum(i.billed_cents) AS bigint) AS billed_cents,
           sum(i.exact_usd_cents) AS exact_usd_cents, sum(i.carried_in_usd_cents) AS carried_in_usd_cents,
           sum(i.remainder_usd_cents) AS remainder_usd_cents
    {_FROM}
    WHERE (CAST(:period AS text) IS NULL OR s.period = :period)
      AND (CAST(:customer_id AS text) IS NULL OR s.customer_id = :customer_id)
    GROUP BY 1
    """
)


def sums_by_status(
    connection: Connection, *, period: str | None, customer_id: str | None, now: datetime
) -> Mapping[InvoiceStatus, StatusSum]:
    """The invoices of a month, of a customer or of both, by status. Not for all months of all customers."""
    assert period is not None or customer_id is not None
    rows = connection.execute(_SUMS, {"period": period, "customer_id": customer_id, "now": now})
    found = [dict(row._mapping) for row in rows]
    return {InvoiceStatus(each.pop("status")): StatusSum(**each) for each in found}


# Counts at most this many; a list of them says nothing more.
MOST_COUNTED = 10_000
_TO_DO = " UNION ALL ".join(
    f"""
    SELECT '{status.value}' AS status, count(*) AS count,
           CAST(coalesce(sum(billed_cents), 0) AS bigint) AS billed_cents
    FROM (SELECT i.billed_cents {_FROM} WHERE {_CONDITIONS[status]} LIMIT {MOST_COUNTED}) AS {status.value}
    """
    for status in TO_DO
)


def sums_to_do(connection: Connection, *, now: datetime) -> Mapping[InvoiceStatus, StatusSum]:
    """The invoices of all months and customers that are on their way, past due or need attention; few of each."""
    rows = connection.execute(text(_TO_DO), {"now": now})
    return {
        InvoiceStatus(row.status): StatusSum(count=row._mapping["count"], billed_cents=row.billed_cents)
        for row in rows
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusFilter:
    """A filter for invoices; None does not filter. `state` is a push state."""

    status: InvoiceStatus | None = None
    customer_id: str | None = None
    period: str | None = None
    state: str | None = None


def _page(condition: str) -> str:
    return f"""
    SELECT s.customer_id, s.invoice_id FROM invoice_pushes s
    WHERE {condition} AND (CAST(:customer_id AS text) IS NULL OR s.customer_id = :customer_id)
      AND (CAST(:period AS text) IS NULL OR s.period = :period)
      AND (CAST(:state AS text) IS NULL OR s.state = :state)
      AND (CAST(:before AS text) IS NULL OR (s.period, s.customer_id) < (:before, :before_customer))
    ORDER BY s.period DESC, s.customer_id DESC LIMIT :limit
    """


_PAGES = {status: text(_page(condition)) for status, condition in _CONDITIONS.items()} | {
    None: text(_page("true"))
}


def invoices_by_status(
    connection: Connection, *, where: StatusFilter, before: tuple[str, str] | None, limit: int, now: datetime
) -> Sequence[tuple[str, str]]:
    """Up to `limit` (customer_id, invoice_id), the newest month first, that come after the position `before`.

    A position is (period, customer_id).
    """
    period, customer_id = before or (None, None)
    parameters: dict[str, object] = {
        "customer_id": where.customer_id,
        "period": where.period,
        "state": where.state,
        "before": period,
        "before_customer": customer_id,
        "limit": limit,
    }
    if ":now" in str(_PAGES[where.status]):
        parameters["now"] = now
    return [(row.customer_id, row.invoice_id) for row in connection.execute(_PAGES[where.status], parameters)]


def newest_invoiced(connection: Connection, *, customer_id: str | None) -> str | None:
    """The newest month with an invoice, of a customer or of all (None); None when there is none."""
    query = text(
        """
        SELECT max(period) FROM invoices WHERE CAST(:customer_id AS text) IS NULL OR customer_id = :customer_id
        """
    )
    newest: str | None = connection.execute(query, {"customer_id": customer_id}).scalar_one()
    return newest

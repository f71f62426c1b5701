"""Queries for invoices by page, for what the invoices of a month bill, and for the entries of an invoice line."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from metering.months.invoice import ClosedPeriod, InvoiceLine, LineKind, line_key_of
from metering.months.queries.entries import LINE_KIND, LINE_MONTH
from metering.months.store.invoices import INVOICE_ROW, LINE_ROW, StoredInvoice, stored_invoice

# Lines of one entry each.
_OF_ONE_ENTRY = (LineKind.CREDIT, LineKind.CORRECTION)
_FROM = "FROM invoices i JOIN billing_periods p ON p.customer_id = i.customer_id AND p.period = i.period"


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceFilter:
    """A filter for invoices; None does not filter. `state` is a push state."""

    customer_id: str | None = None
    period: str | None = None
    state: str | None = None


_PAGE = text(
    f"""
    SELECT {INVOICE_ROW} {_FROM}
    JOIN invoice_pushes s ON s.customer_id = i.customer_id AND s.invoice_id = i.invoice_id
    WHERE (CAST(:customer_id AS text) IS NULL OR i.customer_id = :customer_id)
      AND (CAST(:period AS text) IS NULL OR i.period = :period)
      AND (CAST(:state AS text) IS NULL OR s.state = :state)
      AND (CAST(:before AS text) IS NULL OR (i.period, i.customer_id) < (:before, :before_customer))
    ORDER BY i.period DESC, i.customer_id DESC LIMIT :limit
    """
)
_THESE = text(
    f"""
    SELECT {INVOICE_ROW} {_FROM}
    JOIN unnest(CAST(:customer_ids AS text[]), CAST(:invoice_ids AS text[])) AS wanted (customer_id, invoice_id)
        ON wanted.customer_id = i.customer_id AND wanted.invoice_id = i.invoice_id
    """
)
_BY_ID = text(f"SELECT {INVOICE_ROW} {_FROM} WHERE i.invoice_id = :invoice_id OR i.number = :invoice_id LIMIT 1")
_LINES = text(
    f"""
    SELECT {LINE_ROW} FROM unnest(CAST(:customer_ids AS text[]), CAST(:invoice_ids AS text[]))
        AS wanted (customer_id, invoice_id)
    JOIN invoice_lines l USING (customer_id, invoice_id)
    """
)


def list_invoices(
    connection: Connection, *, where: InvoiceFilter, before: tuple[str, str] | None, limit: int
) -> Sequence[StoredInvoice]:
    """Up to `limit` invoices, the newest month first, that come after the position `before`.

    A position is (period, customer_id). An invoice without a push is left out.
    """
    period, customer_id = before or (None, None)
    parameters = {
        "customer_id": where.customer_id,
        "period": where.period,
        "state": where.state,
        "before": period,
        "before_customer": customer_id,
        "limit": limit,
    }
    return _with_lines(connection, connection.execute(_PAGE, parameters).all())


def get_invoice(connection: Connection, *, customer_id: str, invoice_id: str) -> StoredInvoice | None:
    """The customer's invoice with this id, or None."""
    return get_invoices(connection, [(customer_id, invoice_id)]).get(invoice_id)


def get_invoices(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[str, StoredInvoice]:
    """The invoices with these (customer_id, invoice_id), by invoice id; unknown ones are left out."""
    parameters = {
        "customer_ids": [customer_id for customer_id, _ in keys],
        "invoice_ids": [invoice_id for _, invoice_id in keys],
    }
    rows = connection.execute(_THESE, parameters).all()
    return {each.invoice.invoice_id: each for each in _with_lines(connection, rows)}


def find_invoice(connection: Connection, *, invoice_id: str) -> StoredInvoice | None:
    """The invoice with this id or number, or None."""
    rows = connection.execute(_BY_ID, {"invoice_id": invoice_id}).all()
    return next(iter(_with_lines(connection, rows)), None)


_SEARCH = text(
    """
    SELECT i.invoice_id, i.number, i.customer_id, i.period, i.billed_cents FROM (
        SELECT customer_id, invoice_id FROM invoices WHERE invoice_id = :words
        UNION SELECT customer_id, invoice_id FROM invoice_pushes WHERE stripe_invoice_id = :words
        UNION SELECT customer_id, invoice_id FROM invoice_pushes WHERE stripe_number = upper(:words)
        UNION (SELECT customer_id, invoice_id FROM invoices WHERE number >= upper(:words) ORDER BY number LIMIT 50)
    ) AS may_be JOIN invoices i USING (customer_id, invoice_id)
    LEFT JOIN invoice_pushes p ON p.customer_id = i.customer_id AND p.invoice_id = i.invoice_id
    WHERE (i.invoice_id = :words OR p.stripe_invoice_id = :words OR p.stripe_number = upper(:words)
           OR starts_with(i.number, upper(:words)))
      AND (CAST(:customer_id AS text) IS NULL OR i.customer_id = :customer_id)
    ORDER BY i.number DESC LIMIT :limit
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundInvoice:
    """An invoice that a search found."""

    invoice_id: str
    number: str
    customer_id: str
    period: str
    billed_cents: int


def search_invoices(
    connection: Connection, *, words: str, customer_id: str | None, limit: int
) -> Sequence[FoundInvoice]:
    """Invoices with this id or number, of ours or of Stripe's, or whose own number begins with it."""
    parameters = {"words": words, "customer_id": customer_id, "limit": limit}
    return [FoundInvoice(**row._mapping) for row in connection.execute(_SEARCH, parameters)]


def invoice_numbers(connection: Connection, *, customer_id: str, periods: Collection[str]) -> Mapping[str, str]:
    """The numbers of a customer's invoices by month. A month without an invoice is left out."""
    query = text("SELECT period, number FROM invoices WHERE customer_id = :customer_id AND period = ANY(:periods)")
    rows = connection.execute(query, {"customer_id": customer_id, "periods": list(periods)})
    return {row.period: row.number for row in rows}


def _with_lines(connection: Connection, rows: Sequence[Any]) -> Sequence[StoredInvoice]:
    lines: dict[str, list[Any]] = defaultdict(list)
    keys = {
        "customer_ids": [row.customer_id for row in rows],
        "invoice_ids": [row.invoice_id for row in rows],
    }
    for line in connection.execute(_LINES, keys) if rows else ():
        lines[line.invoice_id].append(line)
    return [stored_invoice(row, lines[row.invoice_id]) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of an invoice line, with its exact amount.

    `at` is the stream's end for a charge, else the time of booking. `what` is the kind, or an adjustment's reason.
    `stream_id` is None for a manual adjustment of the customer as a whole.
    """

    id: str
    at: datetime
    what: str
    stream_id: str | None
    usd_cents: Decimal


_OF_LINE = f"""
    SELECT e.entry_id AS id, e.stream_id, e.usd_cents,
           CASE WHEN e.kind = 'charge' THEN e.ended_at ELSE e.booked_at END AS at,
           CASE WHEN e.kind = 'adjustment' THEN e.reason ELSE e.kind END AS what
    FROM entries e
    CROSS JOIN (VALUES (CAST(:starts_at AS timestamptz), known_time_zone(:time_zone))) AS m (starts_at, time_zone)
    WHERE e.customer_id = :customer_id AND e.period = :period AND {LINE_KIND} = :kind
      AND {LINE_MONTH} IS NOT DISTINCT FROM :month AND e.charged_provider IS NOT DISTINCT FROM :provider
      AND e.charged_model IS NOT DISTINCT FROM :model
      AND (CAST(:adjustment_id AS text) IS NULL OR e.entry_id = :adjustment_id)
"""
_LINE_PAGE = text(f"SELECT * FROM ({_OF_LINE}) AS entries ORDER BY at, id LIMIT :limit")
_LINE_SUMS = text(
    f"SELECT count(*) AS count, coalesce(sum(usd_cents), 0) AS usd_cents FROM ({_OF_LINE}) AS entries"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEntries:
    """The first entries of a line by time, and the count and exact sum of all of them."""

    entries: Sequence[Entry]
    count: int
    usd_cents: Decimal


def line_entries(
    connection: Connection, *, closed: ClosedPeriod, line: InvoiceLine, limit: int
) -> LineEntries | None:
    """Up to `limit` entries of a line. None for a line without any: what is carried in, and what grants paid."""
    if line.sum.kind in (LineKind.CARRIED_IN, LineKind.PREPAID):
        return None
    parameters: dict[str, Any] = {
        "customer_id": closed.customer_id,
        "period": str(closed.period),
        "starts_at": closed.starts_at,
        "time_zone": closed.time_zone,
        "provider": line.sum.provider,
        "model": line.sum.model,
        "kind": line.sum.kind.value,
        "month": line.sum.month,
        "adjustment_id": line.sum.adjustment_id,
        "limit": limit,
    }
    found = connection.execute(_LINE_SUMS, parameters).one()
    return LineEntries(
        entries=[Entry(**row._mapping) for row in connection.execute(_LINE_PAGE, parameters)],
        count=found._mapping["count"],
        usd_cents=found.usd_cents,
    )


# `m` is what `LINE_KIND` and `LINE_MONTH` read of the month.
_LINES_OF_STREAM = text(
    f"""
    SELECT e.entry_id, i.invoice_id, i.number, {LINE_KIND} AS kind, {LINE_MONTH} AS month,
           e.charged_provider AS provider, e.charged_model AS model
    FROM entries e
    JOIN (SELECT customer_id, period, starts_at, known_time_zone(time_zone) AS time_zone FROM billing_periods) AS m
        ON m.customer_id = e.customer_id AND m.period = e.period
    JOIN invoices i ON i.customer_id = e.customer_id AND i.period = e.period
    WHERE e.customer_id = :customer_id AND e.stream_id = :stream_id
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOfEntry:
    """The invoice line that sums an entry."""

    invoice_id: str
    number: str
    line_key: str


def lines_of_stream(connection: Connection, *, customer_id: str, stream_id: str) -> Mapping[str, LineOfEntry]:
    """The invoice lines that sum a stream's entries, by the entries' ids; without an invoice there is none."""
    rows = connection.execute(_LINES_OF_STREAM, {"customer_id": customer_id, "stream_id": stream_id})
    return {
        row.entry_id: LineOfEntry(
            invoice_id=row.invoice_id,
            number=row.number,
            line_key=line_key_of(
                kind=LineKind(row.kind),
                month=row.month,
                provider=row.provider,
                model=row.model,
                adjustment_id=row.entry_id if row.kind in _OF_ONE_ENTRY else None,
            ),
        )
        for row in rows
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoiced:
    """The number of a month's invoices, the cents that they bill, and what these come from, in exact cents.

    `exact_usd_cents` plus `carried_in_usd_cents` minus `prepaid_usd_cents` is `billed_cents` plus
    `remainder_usd_cents`.
    """

    count: int
    billed_cents: int
    exact_usd_cents: Decimal
    carried_in_usd_cents: Decimal
    prepaid_usd_cents: Decimal
    remainder_usd_cents: Decimal


_INVOICED = text(
    """
    SELECT count(*) AS count, CAST(coalesce(sum(billed_cents), 0) AS bigint) AS billed_cents,
           coalesce(sum(exact_usd_cents), 0) AS exact_usd_cents,
           coalesce(sum(carried_in_usd_cents), 0) AS carried_in_usd_cents,
           coalesce(sum(prepaid_usd_cents), 0) AS prepaid_usd_cents,
           coalesce(sum(remainder_usd_cents), 0) AS remainder_usd_cents
    FROM invoices WHERE period = :period AND (CAST(:customer_id AS text) IS NULL OR customer_id = :customer_id)
    """
)


def invoiced(connection: Connection, *, period: str, customer_id: str | None) -> Invoiced:
    """The sums over the invoices of a month, of one customer or of all (None)."""
    row = connection.execute(_INVOICED, {"period": period, "customer_id": customer_id}).one()
    return Invoiced(**row._mapping)

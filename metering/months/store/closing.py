"""SQL that closes months: it marks customers first, and invoices them once no booking can miss the mark.

The rows are the work list: a marked customer without a closed period is still to be invoiced, by any worker.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from metering.core.period import BillingPeriod
from metering.core.time_zones import shown_zone
from metering.customers.queries.time_zones import zone_problems
from metering.db.rows import copy_rows, moment
from metering.ledger.store.open_periods import UnusableTimeZoneError
from metering.months.invoice import ClosedPeriod, Invoice, Previous
from metering.months.store.invoices import CLOSED_COLUMNS, INVOICE_COLUMNS, LINE_COLUMNS, usage_document

_OF_RUN = """
    (CAST(:only AS text) IS NULL OR c.customer_id = :only)
    AND NOT EXISTS (SELECT FROM invoice_run_refusals r WHERE r.run_id = :run_id AND r.customer_id = c.customer_id)
"""


@dataclass(frozen=True, slots=True)
class OpenCustomer:
    """A customer whose month is open, with its time zone: a stored text, which may be unusable."""

    customer_id: str
    time_zone: str


def _claim(skip: str) -> str:
    return f"""
        SELECT c.customer_id, c.time_zone FROM customers c
        WHERE c.closed_through < :period AND c.time_zone = ANY(:time_zones) AND {_OF_RUN}
        ORDER BY c.closed_through, c.customer_id LIMIT :limit FOR UPDATE {skip}
    """


_CLAIM, _CLAIM_WAITING = text(_claim("SKIP LOCKED")), text(_claim(""))


def claim_open_customers(
    connection: Connection,
    *,
    period: BillingPeriod,
    time_zones: Sequence[str],
    run_id: str,
    only: str | None,
    limit: int,
) -> list[OpenCustomer]:
    """Lock up to `limit` customers in these zones whose month is open and whom the run has not refused.

    Customers that another process has locked are skipped. Only when no other is left does this wait for them.
    """
    parameters = {
        "period": str(period),
        "time_zones": list(time_zones),
        "run_id": run_id,
        "only": only,
        "limit": limit,
    }
    rows = connection.execute(_CLAIM, parameters).all() or connection.execute(_CLAIM_WAITING, parameters).all()
    return [OpenCustomer(row.customer_id, row.time_zone) for row in rows]


_OPEN = text(
    """
    SELECT customer_id, time_zone FROM customers
    WHERE closed_through < :period AND time_zone = ANY(:time_zones)
      AND (CAST(:only AS text) IS NULL OR customer_id = :only) ORDER BY customer_id
    """
)


def list_open_customers(
    connection: Connection, *, period: BillingPeriod, time_zones: Sequence[str], only: str | None
) -> list[OpenCustomer]:
    """Customers in these zones whose month is open, all of them or only one (`only`)."""
    parameters = {"period": str(period), "time_zones": list(time_zones), "only": only}
    rows = connection.execute(_OPEN, parameters)
    return [OpenCustomer(row.customer_id, row.time_zone) for row in rows]


def mark_closed(connection: Connection, customer_ids: Sequence[str], *, period: BillingPeriod) -> None:
    """Mark customers as closed through this month.

    Bookings that begin after the commit go to later months.
    """
    connection.execute(
        text("UPDATE customers SET closed_through = :period WHERE customer_id = ANY(:customer_ids)"),
        {"period": str(period), "customer_ids": list(customer_ids)},
    )


_UNBUILT = f"""
    WITH built AS MATERIALIZED (SELECT customer_id FROM billing_periods WHERE period = :period)
    SELECT c.customer_id FROM customers c
    WHERE c.closed_through = :period AND {_OF_RUN}
      AND NOT EXISTS (SELECT FROM built b WHERE b.customer_id = c.customer_id)
"""


def marked_customers(
    connection: Connection, *, period: BillingPeriod, run_id: str, only: str | None, limit: int
) -> list[str]:
    """Up to `limit` customers that are marked for this month, not invoiced yet, and not refused by the run."""
    rows = connection.execute(
        text(f"{_UNBUILT} ORDER BY c.customer_id LIMIT :limit"),
        {"period": str(period), "run_id": run_id, "only": only, "limit": limit},
    )
    return [row.customer_id for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedCustomer:
    """A customer to be invoiced.

    `closed_until` is the end of its last closed month. `months` are the months to close: earlier open months that
    have entries, then the month of the run.
    """

    customer_id: str
    time_zone: ZoneInfo
    closed_until: datetime | None
    previous: Previous | None
    months: tuple[BillingPeriod, ...]


_LOCK_MARKED = text(
    """
    SELECT c.customer_id FROM customers c WHERE c.customer_id = ANY(:customer_ids)
    ORDER BY c.customer_id FOR UPDATE SKIP LOCKED
    """
)
# A separate statement, to see what was committed before the rows were locked.
_MARKED = text(
    """
    WITH closed AS (
        SELECT DISTINCT ON (customer_id) customer_id, period, ends_at FROM billing_periods
        WHERE customer_id = ANY(:customer_ids) ORDER BY customer_id, period DESC
    ), newest AS (
        SELECT DISTINCT ON (customer_id) customer_id, invoice_id, remainder_usd_cents, period FROM invoices
        WHERE customer_id = ANY(:customer_ids) ORDER BY customer_id, period DESC
    )
    SELECT c.customer_id, c.time_zone, closed.ends_at AS closed_until,
           i.invoice_id, i.remainder_usd_cents, i.period AS invoiced_period, coalesce(closed.period, '') AS closed
    FROM customers c LEFT JOIN closed ON closed.customer_id = c.customer_id
    LEFT JOIN newest i ON i.customer_id = c.customer_id
    WHERE c.customer_id = ANY(:customer_ids) AND coalesce(closed.period, '') < :period
    ORDER BY c.customer_id
    """
)
_EARLIER = text(
    """
    SELECT e.customer_id, e.period FROM entries e
    JOIN unnest(CAST(:customer_ids AS text[]), CAST(:closed AS text[])) AS c (customer_id, closed)
        ON c.customer_id = e.customer_id
    WHERE e.period < :period AND e.period > c.closed GROUP BY 1, 2
    """
)


def lock_marked(
    connection: Connection, customer_ids: Sequence[str], *, period: BillingPeriod
) -> list[MarkedCustomer]:
    """Lock the customers that are not invoiced yet and that no other process is invoicing, and read them.

    They must have been marked before the wait for bookings.
    """
    locked = connection.execute(_LOCK_MARKED, {"customer_ids": list(customer_ids)}).scalars().all()
    return read_marked(connection, locked, period=period)


def read_marked(
    connection: Connection, customer_ids: Sequence[str], *, period: BillingPeriod
) -> list[MarkedCustomer]:
    """Read what is needed to invoice these customers. Customers that are closed for `period` are left out.

    Raises:
        UnusableTimeZoneError: the months of one of them cannot be bounded.
    """
    rows = connection.execute(_MARKED, {"customer_ids": list(customer_ids), "period": str(period)}).all()
    zones = {row.time_zone for row in rows}
    for time_zone, problem in zone_problems(connection, sorted(zones)).items():
        (first, *_) = (row.customer_id for row in rows if row.time_zone == time_zone)
        raise UnusableTimeZoneError(f"{problem}; set another time zone for customer {first!r}")
    earlier = _earlier_months(connection, rows, period=period)
    return [
        MarkedCustomer(
            customer_id=row.customer_id,
            time_zone=shown_zone(row.time_zone),
            closed_until=row.closed_until,
            previous=Previous(
                invoice_id=row.invoice_id,
                remainder_usd_cents=row.remainder_usd_cents,
                period=BillingPeriod.parse(row.invoiced_period),
            )
            if row.invoice_id
            else None,
            months=(*sorted(earlier[row.customer_id]), period),
        )
        for row in rows
    ]


def _earlier_months(
    connection: Connection, rows: Sequence[Any], *, period: BillingPeriod
) -> Mapping[str, Sequence[BillingPeriod]]:
    """The open months before this one that have entries, by customer."""
    earlier: dict[str, list[BillingPeriod]] = defaultdict(list)
    parameters = {
        "customer_ids": [row.customer_id for row in rows],
        "closed": [row.closed for row in rows],
        "period": str(period),
    }
    for row in connection.execute(_EARLIER, parameters):
        earlier[row.customer_id].append(BillingPeriod.parse(row.period))
    return earlier


_COPY_CLOSED = f"COPY billing_periods (customer_id, period, {', '.join(CLOSED_COLUMNS)}) FROM STDIN"
# Closing keeps the rates in the same transaction.
_COPY_INVOICES = f"COPY invoices ({', '.join(INVOICE_COLUMNS)}, rates_kept) FROM STDIN"
_COPY_LINES = f"COPY invoice_lines ({', '.join(LINE_COLUMNS)}) FROM STDIN"


def add_closed_periods(connection: Connection, closed: Iterable[ClosedPeriod]) -> None:
    """Record closed months. From the commit on the database refuses entries in them."""
    copy_rows(connection, _COPY_CLOSED, map(_closed_row, closed))


def add_invoices(connection: Connection, invoices: Sequence[Invoice], *, now: datetime) -> None:
    """Store invoices and their lines, with the next numbers of their months."""
    by_period: dict[BillingPeriod, list[Invoice]] = {}
    for invoice in invoices:
        by_period.setdefault(invoice.period, []).append(invoice)
    for period in sorted(by_period):
        first = _take_numbers(connection, period, len(by_period[period]))
        rows = [
            _invoice_row(invoice, f"{period}-{first + place:06d}", now)
            for place, invoice in enumerate(by_period[period])
        ]
        copy_rows(connection, _COPY_INVOICES, rows)
    copy_rows(connection, _COPY_LINES, (row for invoice in invoices for row in _line_rows(invoice)))


_TAKE_NUMBERS = text(
    """
    INSERT INTO invoice_numbers AS n (period, last) VALUES (:period, :count)
    ON CONFLICT (period) DO UPDATE SET last = n.last + :count RETURNING last
    """
)


def _take_numbers(connection: Connection, period: BillingPeriod, count: int) -> int:
    last: int = connection.execute(_TAKE_NUMBERS, {"period": str(period), "count": count}).scalar_one()
    return last - count + 1


def _closed_row(closed: ClosedPeriod) -> tuple[Any, ...]:
    return (
        closed.customer_id,
        str(closed.period),
        closed.time_zone,
        moment(closed.starts_at),
        moment(closed.ends_at),
        moment(closed.closed_at),
        closed.closed_by,
        closed.force_reason,
        closed.entry_count,
        closed.seal,
    )


def _invoice_row(invoice: Invoice, number: str, now: datetime) -> tuple[Any, ...]:
    return (
        invoice.customer_id,
        invoice.invoice_id,
        str(invoice.period),
        number,
        invoice.previous_invoice_id,
        invoice.exact_usd_cents,
        invoice.carried_in_usd_cents,
        invoice.billed_cents,
        invoice.remainder_usd_cents,
        invoice.minimum_cents,
        invoice.prepaid_usd_cents,
        moment(now),
        True,
    )


def _line_rows(invoice: Invoice) -> Iterable[tuple[Any, ...]]:
    for line in invoice.lines:
        each = line.sum
        yield (
            invoice.customer_id,
            invoice.invoice_id,
            each.line_key,
            each.kind.value,
            each.provider,
            each.model,
            each.month,
            each.adjustment_id,
            each.reason,
            moment(each.starts_at),
            moment(each.ends_at),
            each.stream_count,
            usage_document(each.usage),
            each.usd_cents,
            line.billed_cents,
        )

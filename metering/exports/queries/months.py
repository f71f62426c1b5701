"""Customers with entries in a month, with its bounds and its invoice, and the SQL that exports of months share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE, shown_zone
from metering.db.rows import json_rows
from metering.exports.columns import Kind

_CHUNK = 1_000
_SET = text(
    "SELECT set_config(name, setting, true)"
    " FROM unnest(CAST(:names AS text[]), CAST(:settings AS text[])) AS s (name, setting)"
)


def limit_export(connection: Connection, *, timeout: timedelta) -> None:
    """Set the memory and the time limits of an export's queries, for this transaction only."""
    # Sorting is most of the work, and JIT compilation takes longer than it saves.
    milliseconds = str(timeout // timedelta(milliseconds=1))
    settings = {
        "jit": "off",
        "work_mem": "64MB",
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
    }
    connection.execute(_SET, {"names": list(settings), "settings": list(settings.values())})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportInvoice:
    """The amounts of a closed month: `billed + remainder = exact + carried in - prepaid`.

    `carried_from` is a month.
    `stripe_number` is Stripe's number; None until Stripe has the invoice finalized.
    """

    invoice_id: str
    number: str
    exact_usd_cents: Decimal
    carried_in_usd_cents: Decimal
    billed_cents: int
    remainder_usd_cents: Decimal
    prepaid_usd_cents: Decimal
    carried_from: str | None
    stripe_number: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantsOfMonth:
    """What a customer's grants paid of a month, in exact cents; sold and earned of their price, in whole cents."""

    drawn_usd_cents: Decimal
    sold_cents: int
    recognised_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportMonth:
    """A customer's month with entries or sold grants, half-open in its time zone. An open one has no invoice.

    `time_zone` divides it into days: UTC, if this service or PostgreSQL does not know the customer's.
    """

    customer_id: str
    customer_name: str | None
    period: BillingPeriod
    time_zone: ZoneInfo
    starts_at: datetime
    ends_at: datetime
    entry_count: int
    invoice: ExportInvoice | None
    grants: GrantsOfMonth


# What is stored of the month of each customer, apart from its entries. `ended` is when its last closed month did.
_MONTHS = text(
    """
    WITH these AS MATERIALIZED (
        SELECT customer_id FROM customers WHERE CAST(:customer_id AS text) IS NULL OR customer_id = :customer_id
    ), closed AS MATERIALIZED (
        SELECT p.customer_id, p.time_zone, p.starts_at, p.ends_at, p.entry_count, i.invoice_id, i.number,
               i.exact_usd_cents, i.carried_in_usd_cents, i.billed_cents, i.remainder_usd_cents,
               i.prepaid_usd_cents, b.period AS carried_from, s.stripe_number
        FROM these JOIN billing_periods p ON p.customer_id = these.customer_id AND p.period = :period
        LEFT JOIN invoices i ON i.customer_id = p.customer_id AND i.period = p.period
        LEFT JOIN invoice_pushes s ON s.customer_id = i.customer_id AND s.invoice_id = i.invoice_id
        LEFT JOIN invoices b ON b.customer_id = i.customer_id AND b.invoice_id = i.previous_invoice_id
    ), ended AS MATERIALIZED (
        SELECT p.customer_id, max(p.ends_at) AS until
        FROM these JOIN billing_periods p USING (customer_id) GROUP BY 1
    ), prepaid AS MATERIALIZED (
        SELECT d.customer_id, d.drawn_usd_cents FROM these JOIN prepaid_months d USING (customer_id)
        WHERE d.period = :period
    ), sold AS MATERIALIZED (
        SELECT n.customer_id, sum(n.sold_cents) AS sold_cents, sum(n.recognised_cents) AS recognised_cents
        FROM these JOIN grant_months n USING (customer_id) WHERE n.period = :period GROUP BY 1
    )
    SELECT c.customer_id, c.name, coalesce(p.time_zone, c.time_zone) AS time_zone, p.starts_at, p.ends_at,
           p.entry_count, ended.until AS closed_until, p.invoice_id, p.number, p.exact_usd_cents,
           p.carried_in_usd_cents, p.billed_cents, p.remainder_usd_cents, p.prepaid_usd_cents, p.carried_from,
           p.stripe_number, coalesce(d.drawn_usd_cents, 0) AS drawn_usd_cents,
           coalesce(g.sold_cents, 0) AS sold_cents, coalesce(g.recognised_cents, 0) AS recognised_cents,
           known_time_zone(coalesce(p.time_zone, c.time_zone)) IS NOT NULL AS is_known
    FROM these JOIN customers c ON c.customer_id = these.customer_id
    LEFT JOIN closed p ON p.customer_id = c.customer_id LEFT JOIN ended ON ended.customer_id = c.customer_id
    LEFT JOIN prepaid d ON d.customer_id = c.customer_id LEFT JOIN sold g ON g.customer_id = c.customer_id
    ORDER BY c.customer_id COLLATE "C"
    """
).execution_options(yield_per=_CHUNK)
# Entries are counted of open months only: that of a closed one is stored.
_COUNTS = text(
    """
    SELECT customer_id, count(*) AS entries FROM entries
    WHERE customer_id = ANY(:customer_ids) AND period = :period GROUP BY 1
    """
)


def count_entries(connection: Connection, *, period: BillingPeriod, customer_id: str | None) -> int:
    """The number of entries in the month, of all customers or of one."""
    return sum(month.entry_count for month in iterate_months(connection, period=period, customer_id=customer_id))


def iterate_months(
    connection: Connection, *, period: BillingPeriod, customer_id: str | None
) -> Iterator[ExportMonth]:
    """The month of each customer with entries in it, by customer id; rows are read while iterating."""
    parameters = {"period": str(period), "customer_id": customer_id}
    for rows in connection.execute(_MONTHS, parameters).partitions(_CHUNK):
        still_open = [row.customer_id for row in rows if row.entry_count is None]
        counts = {"customer_ids": still_open, "period": str(period)}
        counted = (
            {row.customer_id: row.entries for row in connection.execute(_COUNTS, counts)} if still_open else {}
        )
        for row in rows:
            entries = counted.get(row.customer_id, 0) if row.entry_count is None else row.entry_count
            if entries or row.sold_cents:
                yield _month(row, period, entries)


def month_parameters(months: Sequence[ExportMonth]) -> dict[str, object]:
    """The parameters of a query with `…_OF_MONTHS`: the same month of several customers."""
    rows = (
        {
            "n": n,
            "customer_id": month.customer_id,
            "time_zone": month.time_zone.key,
            "starts_at": month.starts_at,
            "ends_at": month.ends_at,
            "customer_name": month.customer_name,
            "invoice_id": month.invoice.invoice_id if month.invoice else None,
            "invoice_number": month.invoice.number if month.invoice else None,
        }
        for n, month in enumerate(months)
    )
    return {
        "months": json_rows(rows),
        "customer_ids": [month.customer_id for month in months],
        "period": str(months[0].period),
    }


# A FROM item: the months as `m`, each with its number `n`, joined with their rows of {table} as {row}. The
# conditions on the table repeat the join with parameters: PostgreSQL can then estimate the number of rows, and
# reads them once in physical order instead of customer by customer.
_OF_MONTHS = """
    json_to_recordset(CAST(:months AS json)) AS m (
        n int, customer_id text, time_zone text, starts_at timestamptz, ends_at timestamptz, customer_name text,
        invoice_id text, invoice_number text
    )
    JOIN {table} {row} ON {row}.customer_id = m.customer_id
    AND {row}.customer_id = ANY(CAST(:customer_ids AS text[])) AND {row}.period = :period
"""
# The entries `e` of each kind, with the columns of the view `entries` that are used. That view is a union: Citus
# would move all of its rows to the coordinator before it joins them with others.
CHARGES_OF_MONTHS = _OF_MONTHS.format(
    table="""(
        SELECT *, 0 AS revision, period AS charged_period, ended_at AS charged_ended_at,
               provider AS charged_provider, model AS charged_model, 'charge' AS kind FROM charges
    )""",
    row="e",
)
INVOICES_OF_MONTHS = _OF_MONTHS.format(table="invoices", row="i")
ADJUSTMENTS_OF_MONTHS = _OF_MONTHS.format(
    table="(SELECT *, adjustment_id AS entry_id, 'adjustment' AS kind FROM adjustments)", row="e"
)
MANUAL_OF_MONTHS = _OF_MONTHS.format(
    table="""(
        SELECT *, adjustment_id AS entry_id, NULL::integer AS revision, NULL AS charged_period,
               NULL::timestamptz AS charged_ended_at, NULL AS charged_provider, NULL AS charged_model
        FROM manual_adjustments
    )""",
    row="e",
)


def as_copied(value: str, kind: Kind) -> str:
    """An expression for the text of a value, given as an expression of SQL; `ExportFile` says how it looks.

    >>> as_copied("usd_cents", Kind.NUMBER)
    'trim_scale(usd_cents)'
    """
    match kind:
        case Kind.NUMBER:
            return f"trim_scale({value})"
        case Kind.MOMENT:
            return f"replace(CAST({value} AT TIME ZONE 'UTC' AS text), ' ', 'T') || 'Z'"
        case Kind.FLAG:
            return f"CAST({value} AS text)"
        case Kind.TEXT | Kind.COUNT | Kind.JSON:
            return value


def _month(row: Any, period: BillingPeriod, entry_count: int) -> ExportMonth:
    zone = shown_zone(row.time_zone)
    starts_at, ends_at = row.starts_at, row.ends_at
    if starts_at is None:
        starts_at, ends_at = period.bounds(time_zone=zone, closed_until=row.closed_until)
    return ExportMonth(
        customer_id=row.customer_id,
        customer_name=row.name,
        period=period,
        time_zone=zone if row.is_known else UTC_ZONE,
        starts_at=starts_at,
        ends_at=ends_at,
        entry_count=entry_count,
        invoice=_invoice(row) if row.invoice_id is not None else None,
        grants=GrantsOfMonth(
            drawn_usd_cents=row.drawn_usd_cents,
            sold_cents=int(row.sold_cents),
            recognised_cents=int(row.recognised_cents),
        ),
    )


def _invoice(row: Any) -> ExportInvoice:
    return ExportInvoice(
        invoice_id=row.invoice_id,
        number=row.number,
        exact_usd_cents=row.exact_usd_cents,
        carried_in_usd_cents=row.carried_in_usd_cents,
        billed_cents=row.billed_cents,
        remainder_usd_cents=row.remainder_usd_cents,
        prepaid_usd_cents=row.prepaid_usd_cents,
        carried_from=row.carried_from,
        stripe_number=row.stripe_number,
    )

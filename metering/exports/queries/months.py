"""Customers with entries in a month: its bounds, and the invoice and its lines when the month is closed."""

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
from metering.events.usage import COUNTERS, TIMED_COUNTERS
from metering.months.invoice import LineKind

_CHUNK = 1_000
_SET = text(
    "SELECT set_config(name, setting, true)"
    " FROM unnest(CAST(:names AS text[]), CAST(:settings AS text[])) AS s (name, setting)"
)


def limit_export(connection: Connection, *, timeout: timedelta | None) -> None:
    """Set the memory and the time limits of an export's queries, for this transaction only."""
    # Sorting is most of the work, and JIT compilation takes longer than it saves.
    settings = {"jit": "off", "work_mem": "64MB"}
    if timeout is not None:
        milliseconds = str(timeout // timedelta(milliseconds=1))
        settings |= {"statement_timeout": milliseconds, "idle_in_transaction_session_timeout": milliseconds}
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


_COUNTED = "(SELECT count(*) FROM entries e WHERE e.customer_id = c.customer_id AND e.period = :period)"
_MONTHS = f"""
    SELECT c.customer_id, c.name, coalesce(p.time_zone, c.time_zone) AS time_zone,
           p.starts_at, p.ends_at,
           coalesce(p.entry_count, {_COUNTED}) AS entry_count, closed.until AS closed_until,
           i.invoice_id, i.number, i.exact_usd_cents, i.carried_in_usd_cents, i.billed_cents,
           i.remainder_usd_cents, i.prepaid_usd_cents, b.period AS carried_from, s.stripe_number,
           coalesce(d.drawn_usd_cents, 0) AS drawn_usd_cents, g.sold_cents, g.recognised_cents
    FROM customers c
    LEFT JOIN billing_periods p ON p.customer_id = c.customer_id AND p.period = :period
    LEFT JOIN invoices i ON i.customer_id = c.customer_id AND i.period = :period
    LEFT JOIN invoice_pushes s ON s.customer_id = i.customer_id AND s.invoice_id = i.invoice_id
    LEFT JOIN invoices b ON b.customer_id = i.customer_id AND b.invoice_id = i.previous_invoice_id
    LEFT JOIN prepaid_months d ON d.customer_id = c.customer_id AND d.period = :period
    CROSS JOIN LATERAL (SELECT coalesce(sum(sold_cents), 0) AS sold_cents,
                               coalesce(sum(recognised_cents), 0) AS recognised_cents
                        FROM grant_months n WHERE n.customer_id = c.customer_id AND n.period = :period) AS g
    LEFT JOIN LATERAL (SELECT l.ends_at AS until FROM billing_periods l WHERE l.customer_id = c.customer_id
                       AND p.customer_id IS NULL ORDER BY l.period DESC LIMIT 1) AS closed ON true
    WHERE CAST(:customer_id AS text) IS NULL OR c.customer_id = :customer_id
"""
_IN_ORDER = text(
    f"""
    SELECT m.*, known_time_zone(time_zone) IS NOT NULL AS is_known
    FROM ({_MONTHS}) AS m WHERE entry_count > 0 OR sold_cents <> 0 ORDER BY customer_id COLLATE "C"
    """
).execution_options(yield_per=_CHUNK)
_ALL = text(f"SELECT coalesce(sum(entry_count), 0) FROM ({_MONTHS}) AS m")


def count_entries(connection: Connection, *, period: BillingPeriod, customer_id: str | None) -> int:
    """The number of entries in the month, of all customers or of one."""
    parameters = {"period": str(period), "customer_id": customer_id}
    return int(connection.execute(_ALL, parameters).scalar_one())


def iterate_months(
    connection: Connection, *, period: BillingPeriod, customer_id: str | None
) -> Iterator[ExportMonth]:
    """The month of each customer with entries in it, by customer id; rows are read while iterating."""
    parameters = {"period": str(period), "customer_id": customer_id}
    for row in connection.execute(_IN_ORDER, parameters):
        yield _month(row, period)


def month_parameters(months: Sequence[ExportMonth]) -> dict[str, object]:
    """The parameters of a query with `ENTRIES_OF_MONTHS`: the same month of several customers."""
    rows = (
        {
            "n": n,
            "customer_id": month.customer_id,
            "time_zone": month.time_zone.key,
            "starts_at": month.starts_at,
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
    json_to_recordset(CAST(:months AS json)) AS m (n int, customer_id text, time_zone text, starts_at timestamptz)
    JOIN {table} {row} ON {row}.customer_id = m.customer_id
    AND {row}.customer_id = ANY(CAST(:customer_ids AS text[])) AND {row}.period = :period
"""
ENTRIES_OF_MONTHS = _OF_MONTHS.format(table="entries", row="e")


def _month(row: Any, period: BillingPeriod) -> ExportMonth:
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
        entry_count=row.entry_count,
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


def _kind(counter: str) -> str:
    return "numeric" if counter in TIMED_COUNTERS else "bigint"


_COUNTERS = ", ".join(f"coalesce(CAST(l.usage ->> '{name}' AS {_kind(name)}), 0)" for name in COUNTERS)
_LINES = text(
    f"""
    SELECT m.n, l.line_key, l.kind, l.provider, l.model, l.month, l.adjustment_id, l.reason, l.starts_at,
           l.ends_at, l.stream_count, {_COUNTERS}, l.usd_cents, l.billed_cents, s.state, s.stripe_invoice_id,
           s.stripe_number
    FROM {_OF_MONTHS.format(table="invoices", row="i")}
    JOIN invoice_lines l ON l.customer_id = i.customer_id AND l.invoice_id = i.invoice_id
    LEFT JOIN invoice_pushes s ON s.customer_id = i.customer_id AND s.invoice_id = i.invoice_id
    ORDER BY m.n, array_position(CAST(:line_kinds AS text[]), l.kind), l.usd_cents DESC, l.line_key COLLATE "C"
    """
).execution_options(yield_per=_CHUNK)


def iterate_lines(connection: Connection, months: Sequence[ExportMonth]) -> Iterator[Sequence[Any]]:
    """The lines of the invoices of these months, each starting with the number of its month.

    An open month has none. `exports/lines_export.py` adds the invoice to each row, and names the columns.
    """
    parameters = {**month_parameters(months), "line_kinds": [kind.value for kind in LineKind]}
    found = connection.execute(_LINES, parameters)
    yield from found.partitions(_CHUNK)

"""Read customers, with what they owe for this month so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from metering.core.period import BillingPeriod


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerView:
    """A customer; `month_to_date_usd_cents` sums the final amounts of the month in the customer's time zone."""

    customer_id: str
    name: str | None
    stripe_customer_id: str | None
    time_zone: str
    created_at: datetime
    month_to_date_usd_cents: Decimal


_CUSTOMERS = """
    WITH page AS (
        SELECT c.*, date_trunc('month', CAST(:now AS timestamptz), c.time_zone) AS month_start
        FROM customers c WHERE {condition} ORDER BY c.customer_id LIMIT :limit
    ), pending AS (
        SELECT customer_id, sum(t.usd_cents) AS usd_cents FROM totals_pending t JOIN page USING (customer_id)
        WHERE t.hour >= month_start GROUP BY customer_id
    )
    SELECT customer_id, page.name, page.stripe_customer_id, page.time_zone, page.created_at,
           coalesce((SELECT sum(t.usd_cents) FROM totals_hourly t
                     WHERE t.customer_id = page.customer_id AND t.hour >= month_start), 0)
           + coalesce(pending.usd_cents, 0) AS month_to_date_usd_cents
    FROM page LEFT JOIN pending USING (customer_id) ORDER BY customer_id
"""
_PAGE = text(
    _CUSTOMERS.format(
        condition="c.customer_id > :after AND (CAST(:only AS text) IS NULL OR c.customer_id = :only)"
    )
)
_ONE = text(_CUSTOMERS.format(condition="c.customer_id = :customer_id"))


def list_customers(
    connection: Connection, *, now: datetime, only: str | None, after: str, limit: int
) -> Sequence[CustomerView]:
    """Customers after the id `after`, by id; only the customer `only` if given."""
    rows = connection.execute(_PAGE, {"now": now, "only": only, "after": after, "limit": limit})
    return [CustomerView(**row._mapping) for row in rows]


_FOUND = text(
    _CUSTOMERS.format(
        condition="starts_with(lower(c.customer_id), lower(:prefix)) OR starts_with(lower(c.name), lower(:prefix))"
    )
)


def find_customers(connection: Connection, *, now: datetime, prefix: str, limit: int) -> Sequence[CustomerView]:
    """Customers whose id or name starts with `prefix`, ignoring case, by id."""
    rows = connection.execute(_FOUND, {"now": now, "prefix": prefix, "limit": limit})
    return [CustomerView(**row._mapping) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlinkedCustomer:
    """A customer without a Stripe id; `waiting_cents` is the sum of its invoices that wait for one."""

    customer_id: str
    name: str | None
    waiting_cents: int


_UNLINKED = text(
    """
    SELECT c.customer_id, c.name, CAST(coalesce(sum(i.billed_cents), 0) AS bigint) AS waiting_cents
    FROM customers c
    LEFT JOIN invoice_pushes p ON p.customer_id = c.customer_id AND p.state IN ('pending', 'unlinked')
    LEFT JOIN invoices i ON i.customer_id = p.customer_id AND i.invoice_id = p.invoice_id
    WHERE c.stripe_customer_id IS NULL GROUP BY c.customer_id ORDER BY c.customer_id
    """
)


def unlinked_customers(connection: Connection) -> Sequence[UnlinkedCustomer]:
    """Customers without a Stripe id, by id."""
    return [UnlinkedCustomer(**row._mapping) for row in connection.execute(_UNLINKED)]


def linked_stripe_ids(connection: Connection) -> Sequence[str]:
    """The Stripe ids that customers have."""
    query = text("SELECT stripe_customer_id FROM customers WHERE stripe_customer_id IS NOT NULL")
    return connection.execute(query).scalars().all()


def time_zones_in_use(connection: Connection) -> Sequence[str]:
    """The time zones of all customers, each once."""
    return connection.execute(text("SELECT DISTINCT time_zone FROM customers ORDER BY time_zone")).scalars().all()


# `latest` is at or after the last month of every customer, so the index leads to the few customers before it.
_OVERDUE = text(
    """
    SELECT count(*) FROM (
        SELECT FROM customers c CROSS JOIN LATERAL (
            SELECT date_trunc('month', CAST(:until AS timestamptz), c.time_zone) AS ends_at) AS last
        WHERE c.closed_through < :latest AND c.created_at < last.ends_at
          AND c.closed_through < to_char(last.ends_at AT TIME ZONE c.time_zone - interval '1 day', 'YYYY-MM')
        LIMIT 100000
    ) AS overdue
    """
)


def count_overdue_customers(connection: Connection, *, until: datetime) -> int:
    """How many customers have an open month that ended by `until`. Counts up to 100,000."""
    latest = BillingPeriod.containing(at=until + timedelta(days=1), time_zone=ZoneInfo("UTC")).previous
    found: int = connection.execute(_OVERDUE, {"until": until, "latest": str(latest)}).scalar_one()
    return found


def get_customer(connection: Connection, *, customer_id: str, now: datetime) -> CustomerView | None:
    """One customer; None if there is none with this id."""
    row = connection.execute(_ONE, {"now": now, "customer_id": customer_id, "limit": 1}).first()
    return CustomerView(**row._mapping) if row else None

"""Read customers, with what they owe for this month so far, and those that look alike or lack a Stripe id."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from metering.core.money import ZERO
from metering.core.period import BillingPeriod
from metering.core.time_zones import shown_zone
from metering.customers.queries.month_bounds import month_bounds
from metering.db.rows import json_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerView:
    """A customer; `month_to_date_usd_cents` sums the final amounts of its current month.

    That is the month of the customer's time zone, or of UTC while the zone is unusable. `similar_ids` are those of
    `similar_customers`; empty where they were not asked for, as for a customer, who may not see others.
    """

    customer_id: str
    name: str | None
    stripe_customer_id: str | None
    time_zone: str
    created_at: datetime
    month_to_date_usd_cents: Decimal
    similar_ids: Sequence[str] = ()


_CUSTOMERS = """
    SELECT c.customer_id, c.name, c.stripe_customer_id, c.time_zone, c.created_at
    FROM customers c WHERE {condition} ORDER BY c.customer_id LIMIT :limit
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
    rows = connection.execute(_PAGE, {"only": only, "after": after, "limit": limit}).all()
    return _views(connection, rows, now, {} if only else _similar_to(connection, rows))


_FOUND = text(
    _CUSTOMERS.format(
        condition="starts_with(lower(c.customer_id), lower(:prefix)) OR starts_with(lower(c.name), lower(:prefix))"
    )
)


def find_customers(connection: Connection, *, now: datetime, prefix: str, limit: int) -> Sequence[CustomerView]:
    """Customers whose id or name starts with `prefix`, ignoring case, by id."""
    rows = connection.execute(_FOUND, {"prefix": prefix, "limit": limit}).all()
    return _views(connection, rows, now, _similar_to(connection, rows))


_CONTAINS = text(
    """
    SELECT customer_id, name FROM customers
    WHERE strpos(lower(customer_id), lower(:words)) > 0 OR strpos(lower(name), lower(:words)) > 0
          OR stripe_customer_id = :words
    ORDER BY lower(customer_id) <> lower(:words), NOT starts_with(lower(customer_id), lower(:words)), customer_id
    LIMIT :limit
    """
)


def search_customers(connection: Connection, *, words: str, limit: int) -> Sequence[tuple[str, str | None]]:
    """(id, name) of customers whose id or name contains these words, ignoring case, or with this Stripe id.

    The best come first. It reads all customers.
    """
    return [(row.customer_id, row.name) for row in connection.execute(_CONTAINS, {"words": words, "limit": limit})]


def get_customer(
    connection: Connection, *, customer_id: str, now: datetime, with_similar: bool = False
) -> CustomerView | None:
    """One customer; None if there is none with this id."""
    rows = connection.execute(_ONE, {"customer_id": customer_id, "limit": 1}).all()
    similar = _similar_to(connection, rows) if with_similar else {}
    return next(iter(_views(connection, rows, now, similar)), None)


def _similar_to(connection: Connection, rows: Sequence[Any]) -> Mapping[str, Sequence[str]]:
    return similar_customers(connection, [row.customer_id for row in rows])


def _views(
    connection: Connection, rows: Sequence[Any], now: datetime, similar: Mapping[str, Sequence[str]]
) -> Sequence[CustomerView]:
    months = {
        row.customer_id: BillingPeriod.containing(at=now, time_zone=shown_zone(row.time_zone)) for row in rows
    }
    spent = _month_sums(connection, month_bounds(connection, months))
    return [
        CustomerView(
            **row._mapping,
            month_to_date_usd_cents=spent.get(row.customer_id, ZERO),
            similar_ids=similar.get(row.customer_id, ()),
        )
        for row in rows
    ]


_MONTH_SUMS = text(
    """
    WITH months AS MATERIALIZED (
        SELECT customer_id, starts_at, ends_at,
               date_trunc('hour', starts_at + interval '1 hour' - interval '1 microsecond', 'UTC') AS first_hour,
               date_trunc('hour', ends_at, 'UTC') AS last_hour
        FROM json_to_recordset(CAST(:months AS json))
            AS m (customer_id text, starts_at timestamptz, ends_at timestamptz)
    ), parts AS MATERIALIZED (
        SELECT customer_id, starts_at AS from_, first_hour AS to_ FROM months WHERE starts_at < first_hour
        UNION ALL SELECT customer_id, last_hour, ends_at FROM months WHERE last_hour < ends_at
    ), ranges AS MATERIALIZED (SELECT DISTINCT from_, to_ FROM parts), edges AS MATERIALIZED (
        SELECT b.customer_id, r.from_, r.to_, b.bill_usd_cents AS usd_cents
        FROM ranges r JOIN newest_bills b ON b.ended_at >= r.from_ AND b.ended_at < r.to_
        WHERE b.customer_id = ANY(:customer_ids) AND NOT b.taken_back
        UNION ALL
        SELECT a.customer_id, r.from_, r.to_, a.usd_cents
        FROM ranges r JOIN manual_adjustments a ON a.filed_at >= r.from_ AND a.filed_at < r.to_
        WHERE a.customer_id = ANY(:customer_ids)
    )
    SELECT customer_id, sum(usd_cents) AS usd_cents FROM (
        SELECT t.customer_id, t.usd_cents FROM months m JOIN totals_hourly_by_customer t
        ON t.customer_id = m.customer_id AND t.hour >= m.first_hour AND t.hour < m.last_hour
        UNION ALL
        SELECT t.customer_id, t.usd_cents FROM months m JOIN totals_pending t
        ON t.customer_id = m.customer_id AND t.hour >= m.first_hour AND t.hour < m.last_hour
        UNION ALL
        SELECT e.customer_id, e.usd_cents FROM edges e JOIN parts p USING (customer_id, from_, to_)
    ) AS booked GROUP BY customer_id
    """
)


def _month_sums(connection: Connection, bounds: Mapping[str, tuple[datetime, datetime]]) -> Mapping[str, Decimal]:
    months = ({"customer_id": each, "starts_at": at[0], "ends_at": at[1]} for each, at in bounds.items())
    rows = connection.execute(_MONTH_SUMS, {"months": json_rows(months), "customer_ids": list(bounds)})
    return {row.customer_id: row.usd_cents for row in rows}


_NAMES = text(
    "SELECT customer_id, name FROM customers WHERE customer_id = ANY(:customer_ids) AND name IS NOT NULL"
)


def customer_names(connection: Connection, customer_ids: Collection[str]) -> Mapping[str, str]:
    """The names of these customers, by id; one without a name is left out."""
    rows = connection.execute(_NAMES, {"customer_ids": list(customer_ids)})
    return {row.customer_id: row.name for row in rows}


_FIRST_NAMES = text("SELECT customer_id, name FROM customers ORDER BY customer_id LIMIT :limit")


def first_customers(connection: Connection, *, limit: int) -> Sequence[tuple[str, str | None]]:
    """(id, name) of the first customers by id, as suggestions for a field."""
    return [(row.customer_id, row.name) for row in connection.execute(_FIRST_NAMES, {"limit": limit})]


_SIMILAR = text(
    """
    SELECT given.customer_id, array_agg(c.customer_id ORDER BY c.customer_id) AS similar_ids
    FROM unnest(CAST(:customer_ids AS text[])) AS given (customer_id)
    JOIN customers c ON likeness(c.customer_id) = likeness(given.customer_id)
        AND c.customer_id <> given.customer_id
    GROUP BY given.customer_id
    """
)


def similar_customers(connection: Connection, customer_ids: Collection[str]) -> Mapping[str, Sequence[str]]:
    """Other customers whose ids differ from these only in case, Unicode form or spaces; {} if there are none.

    Such a pair is usually one customer whose id two gateways write in different ways.
    """
    rows = connection.execute(_SIMILAR, {"customer_ids": list(customer_ids)})
    return {row.customer_id: row.similar_ids for row in rows}


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

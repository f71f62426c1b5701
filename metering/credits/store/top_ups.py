"""SQL of top-ups, and of the invoices by which grants are paid."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, text

from metering.credits.grant import Grant
from metering.credits.top_up import DAY, TopUp

_PUT = text(
    """
    INSERT INTO top_ups (customer_id, when_below_usd_cents, buy_usd_cents, at_most_a_day, set_at, set_by)
    VALUES (:customer_id, :when_below_usd_cents, :buy_usd_cents, :at_most_a_day, :set_at, :set_by)
    ON CONFLICT (customer_id) DO UPDATE SET when_below_usd_cents = excluded.when_below_usd_cents,
        buy_usd_cents = excluded.buy_usd_cents, at_most_a_day = excluded.at_most_a_day, set_at = excluded.set_at,
        set_by = excluded.set_by
    """
)
_ONE = text("SELECT * FROM top_ups WHERE customer_id = :customer_id")


def put_top_up(connection: Connection, top_up: TopUp) -> None:
    """Store a customer's top-up, in place of the one before."""
    connection.execute(
        _PUT,
        {
            "customer_id": top_up.customer_id,
            "when_below_usd_cents": top_up.when_below_usd_cents,
            "buy_usd_cents": top_up.buy_usd_cents,
            "at_most_a_day": top_up.at_most_a_day,
            "set_at": top_up.set_at,
            "set_by": top_up.set_by,
        },
    )


def find_top_up(connection: Connection, customer_id: str) -> TopUp | None:
    """A customer's top-up; None when none was set."""
    row = connection.execute(_ONE, {"customer_id": customer_id}).first()
    return None if row is None else _top_up(row)


def _top_up(row: Any) -> TopUp:
    return TopUp(**row._mapping)


# Customers that are linked to Stripe and low. What is not effective yet or limited is no balance here either.
_LOW = text(
    """
    SELECT t.customer_id FROM top_ups t JOIN customers c ON c.customer_id = t.customer_id
    WHERE t.at_most_a_day > 0 AND c.stripe_customer_id IS NOT NULL AND t.customer_id > :after
      AND t.when_below_usd_cents > coalesce((
            SELECT sum(g.balance_usd_cents) FROM grants g
            WHERE g.customer_id = t.customer_id AND g.balance_usd_cents > 0 AND g.effective_from <= :now
              AND (g.expires_at IS NULL OR g.expires_at > :now) AND g.only_providers IS NULL
              AND g.only_models IS NULL), 0)
      AND NOT EXISTS (SELECT FROM grant_invoices i WHERE i.customer_id = t.customer_id AND i.is_top_up
                      AND i.state IN ('pending', 'unlinked', 'open', 'stuck'))
    ORDER BY t.customer_id LIMIT :limit
    """
)


def low_customers(connection: Connection, *, now: datetime, after: str, limit: int) -> Sequence[str]:
    """Up to `limit` customers whose balance is low and that have no unpaid top-up, by id after `after`."""
    return connection.execute(_LOW, {"now": now, "after": after, "limit": limit}).scalars().all()


class BoughtTopUps(Struct, frozen=True):
    """How many top-ups of a customer are unpaid, and how many were bought in the last 24 hours."""

    unpaid: int
    in_a_day: int


_BOUGHT = text(
    """
    SELECT count(*) FILTER (WHERE state IN ('pending', 'unlinked', 'open', 'stuck')) AS unpaid,
           count(*) FILTER (WHERE created_at > :since) AS in_a_day
    FROM grant_invoices WHERE customer_id = :customer_id AND is_top_up
      AND (created_at > :since OR state IN ('pending', 'unlinked', 'open', 'stuck'))
    """
)


def bought_top_ups(connection: Connection, customer_id: str, *, now: datetime) -> BoughtTopUps:
    """What was bought of a customer's top-ups, under the lock of its money."""
    row = connection.execute(_BOUGHT, {"customer_id": customer_id, "since": now - DAY}).one()
    return BoughtTopUps(row.unpaid, row.in_a_day)


_ADD_INVOICE = text(
    """
    INSERT INTO grant_invoices (customer_id, grant_id, state, is_top_up, due_at, created_at, changed_at)
    VALUES (:customer_id, :grant_id, 'pending', :is_top_up, :now, :now, :now)
    """
)


def add_grant_invoice(connection: Connection, grant: Grant, *, is_top_up: bool, now: datetime) -> None:
    """Record that a pending grant is to be paid by an invoice, which a worker makes."""
    connection.execute(
        _ADD_INVOICE,
        {"customer_id": grant.customer_id, "grant_id": grant.grant_id, "is_top_up": is_top_up, "now": now},
    )

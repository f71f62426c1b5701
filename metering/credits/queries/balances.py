"""Queries for balances of customers: now, for admission, and as they were at a time."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, text

from metering.core.money import ZERO
from metering.credits.grant import Grant
from metering.credits.store.grants import GRANT_ROW, grant_of_row

# A grant that is limited to providers or models may not pay for the next stream, so it is no balance to admit by.
_BALANCES = text(
    """
    SELECT customer_id, sum(balance_usd_cents) AS usd_cents FROM grants
    WHERE customer_id = ANY(:customer_ids) AND balance_usd_cents > 0 AND effective_from <= :at
      AND (expires_at IS NULL OR expires_at > :at) AND only_providers IS NULL AND only_models IS NULL
    GROUP BY customer_id
    """
)


def balances_of(connection: Connection, customer_ids: Iterable[str], *, at: datetime) -> dict[str, Decimal]:
    """What each of these customers has left at `at`, which is now, to be admitted by; 0 without grants.

    The sum of the active grants that are effective, not expired, and may pay for every model.
    """
    wanted = list(customer_ids)
    rows = connection.execute(_BALANCES, {"customer_ids": wanted, "at": at})
    return dict.fromkeys(wanted, ZERO) | {row.customer_id: row.usd_cents for row in rows}


class GrantBalance(Struct, frozen=True):
    """A grant, and what was left of it at a time."""

    grant: Grant
    balance_usd_cents: Decimal


# A grant's newest entry up to `:at` has what was left.
_AS_OF = text(
    f"""
    SELECT {GRANT_ROW}, newest.balance_usd_cents AS left_usd_cents
    FROM grants g CROSS JOIN LATERAL (
        SELECT e.balance_usd_cents FROM grant_entries e
        WHERE e.customer_id = g.customer_id AND e.grant_id = g.grant_id AND e.booked_at <= :at
        ORDER BY e.entry_number DESC LIMIT 1) AS newest
    WHERE g.customer_id = :customer_id AND g.created_at <= :at AND newest.balance_usd_cents > 0
      AND (g.expires_at IS NULL OR g.expires_at > :at)
    ORDER BY g.priority, g.expires_at NULLS LAST, g.created_at, g.grant_id LIMIT :limit
    """
)
_NOW = text(
    f"""
    SELECT {GRANT_ROW}, g.balance_usd_cents AS left_usd_cents FROM grants g
    WHERE g.customer_id = :customer_id AND g.balance_usd_cents > 0
      AND (g.expires_at IS NULL OR g.expires_at > :at)
    ORDER BY g.priority, g.expires_at NULLS LAST, g.created_at, g.grant_id LIMIT :limit
    """
)
_MOST = 1_000


def balance_now(connection: Connection, *, customer_id: str, at: datetime) -> Sequence[GrantBalance]:
    """The customer's grants with something left at `at`, which is now, in the order of drawing.

    Also those that are not effective yet.
    """
    return _found(connection, _NOW, customer_id, at)


def balance_as_of(connection: Connection, *, customer_id: str, at: datetime) -> Sequence[GrantBalance]:
    """The same for a time in the past, from the entries. A grant that has expired since then is counted."""
    return _found(connection, _AS_OF, customer_id, at)


def _found(connection: Connection, query: Any, customer_id: str, at: datetime) -> Sequence[GrantBalance]:
    rows = connection.execute(query, {"customer_id": customer_id, "at": at, "limit": _MOST})
    return [GrantBalance(grant_of_row(row), row.left_usd_cents) for row in rows]

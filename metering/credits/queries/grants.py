"""Queries that list grants."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, text

from metering.credits.grant import Grant, GrantState
from metering.credits.store.grants import GRANT_ROW, grant_of_row

_LIST = text(
    f"""
    SELECT {GRANT_ROW} FROM grants g
    WHERE (CAST(:customer_id AS text) IS NULL OR g.customer_id = :customer_id)
      AND (CAST(:state AS text) IS NULL OR g.state = :state)
      AND (CAST(:after AS timestamptz) IS NULL OR (g.created_at, g.grant_id) < (:after, :after_id))
    ORDER BY g.created_at DESC, g.grant_id DESC LIMIT :limit
    """
)


def list_grants(
    connection: Connection,
    *,
    customer_id: str | None,
    state: GrantState | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> Sequence[Grant]:
    """Up to `limit` grants, newest first, after the position `after`, a (created_at, grant_id).

    None does not filter.
    """
    created_at, grant_id = after or (None, None)
    parameters = {
        "customer_id": customer_id,
        "state": state and state.value,
        "after": created_at,
        "after_id": grant_id,
        "limit": limit,
    }
    return [grant_of_row(row) for row in connection.execute(_LIST, parameters)]


@dataclass(frozen=True, slots=True)
class PrepaidMonth:
    """What grants paid of a month's invoice."""

    period: str
    drawn_usd_cents: Decimal


_PREPAID = text(
    """
    SELECT period, drawn_usd_cents FROM prepaid_months WHERE customer_id = :customer_id
    ORDER BY period DESC LIMIT :limit
    """
)


def prepaid_months(connection: Connection, *, customer_id: str, limit: int) -> Sequence[PrepaidMonth]:
    """What grants paid of the newest `limit` months of a customer, newest first."""
    rows = connection.execute(_PREPAID, {"customer_id": customer_id, "limit": limit})
    return [PrepaidMonth(row.period, row.drawn_usd_cents) for row in rows]

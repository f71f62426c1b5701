"""Queries for holds and overruns."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, text

from metering.budgets.holds import Hold, Overrun, OverrunReason
from metering.budgets.store.holds import HOLD_ROW, hold_of_row
from metering.db.citus import on_citus


def _open(condition: str) -> str:
    return f"""
    SELECT {HOLD_ROW} FROM holds h
    WHERE h.state = 'open' AND (h.customer_id, h.stream_id) > (:after_customer, :after_stream) {condition}
    ORDER BY h.customer_id, h.stream_id LIMIT :limit
    """


_OPEN, _OPEN_OF = text(_open("")), text(_open("AND h.customer_id = :customer_id"))


def list_open_holds(
    connection: Connection, *, customer_id: str | None, after: tuple[str, str] | None, limit: int
) -> Sequence[Hold]:
    """Open holds in the order of (customer_id, stream_id), of one customer or of all."""
    after_customer, after_stream = after or ("", "")
    parameters: dict[str, object] = {
        "after_customer": after_customer,
        "after_stream": after_stream,
        "limit": limit,
    }
    statement = _OPEN
    if customer_id is not None:
        statement, parameters["customer_id"] = _OPEN_OF, customer_id
    return [hold_of_row(row) for row in connection.execute(statement, parameters)]


_HELD = text(
    "SELECT coalesce(sum(held_usd_cents), 0) FROM holds WHERE customer_id = :customer_id AND state = 'open'"
)


def held_of(connection: Connection, *, customer_id: str) -> Decimal:
    """The sum of a customer's open holds, in exact cents."""
    held: Decimal = connection.execute(_HELD, {"customer_id": customer_id}).scalar_one()
    return held


_SLIDING_CUSTOMERS = text(
    """
    WITH RECURSIVE found (customer_id) AS (
        (SELECT customer_id FROM holds WHERE state = 'open' AND mode = 'sliding' ORDER BY customer_id LIMIT 1)
        UNION ALL
        SELECT (SELECT h.customer_id FROM holds h WHERE h.state = 'open' AND h.mode = 'sliding'
                AND h.customer_id > found.customer_id ORDER BY 1 LIMIT 1)
        FROM found WHERE found.customer_id IS NOT NULL
    )
    SELECT customer_id FROM found WHERE customer_id IS NOT NULL
    """
)
# Citus recurs for one customer only.
_SLIDING_ON_CITUS = text("SELECT DISTINCT customer_id FROM holds WHERE state = 'open' AND mode = 'sliding'")


def customers_with_sliding_holds(connection: Connection) -> frozenset[str]:
    """Whose streams have open sliding holds. It takes one step in the index for each customer."""
    statement = _SLIDING_ON_CITUS if on_citus(connection) else _SLIDING_CUSTOMERS
    return frozenset(connection.execute(statement).scalars())


_OVERRUNS = text(
    """
    SELECT customer_id, entry_id, stream_id, reason, usd_cents, held_usd_cents, booked_at FROM overruns
    WHERE booked_at >= :since AND (CAST(:customer_id AS text) IS NULL OR customer_id = :customer_id)
    ORDER BY booked_at DESC, customer_id, entry_id LIMIT :limit
    """
)


def newest_overruns(
    connection: Connection, *, since: datetime, customer_id: str | None = None, limit: int
) -> Sequence[Overrun]:
    """The newest overruns that were booked from `since` on."""
    rows = connection.execute(_OVERRUNS, {"since": since, "customer_id": customer_id, "limit": limit})
    return [Overrun(**{**row._mapping, "reason": OverrunReason(row.reason)}) for row in rows]

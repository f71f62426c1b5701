"""What the open streams of a customer hold."""

from decimal import Decimal

from sqlalchemy import Connection, text

_HELD = text(
    "SELECT coalesce(sum(held_usd_cents), 0) FROM holds WHERE customer_id = :customer_id AND state = 'open'"
)


def held_of(connection: Connection, *, customer_id: str) -> Decimal:
    """The sum of a customer's open holds, in exact cents."""
    held: Decimal = connection.execute(_HELD, {"customer_id": customer_id}).scalar_one()
    return held

"""Balances of customers."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection


def balances_of(connection: Connection, customer_ids: Iterable[str], *, at: datetime) -> dict[str, Decimal]:
    """What is left of the grants of each customer at `at`, in exact cents; those without grants are left out."""
    del connection, customer_ids, at
    return {}

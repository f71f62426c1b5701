"""The query for what grants paid of months that are closed."""

from collections.abc import Iterable
from decimal import Decimal

from sqlalchemy import Connection, text

# A customer and a month, such as ("acme", "2026-11").
MonthKey = tuple[str, str]

_DRAWN = text(
    """
    SELECT p.customer_id, p.period, p.drawn_usd_cents
    FROM unnest(CAST(:customer_ids AS text[]), CAST(:periods AS text[])) AS wanted (customer_id, period)
    JOIN prepaid_months p ON p.customer_id = wanted.customer_id AND p.period = wanted.period
    WHERE p.drawn_usd_cents <> 0
    """
)


def drawn_of_months(connection: Connection, months: Iterable[MonthKey]) -> dict[MonthKey, Decimal]:
    """What all grants of a customer paid of a month's entries. Months of which they paid nothing are left out."""
    keys = list(months)
    parameters = {"customer_ids": [each[0] for each in keys], "periods": [each[1] for each in keys]}
    rows = connection.execute(_DRAWN, parameters)
    return {(row.customer_id, row.period): row.drawn_usd_cents for row in rows}

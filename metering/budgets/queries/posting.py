"""The query that finds whose bookings have to be posted."""

from collections.abc import Iterable

from sqlalchemy import Connection, text

from metering.credits.queries.grants import HAS_GRANTS

# The conditions without a customer are evaluated once: where there is no budget, hold or grant, none is looked at.
_CUSTOMERS = text(
    f"""
    SELECT c.customer_id FROM unnest(CAST(:customer_ids AS text[])) AS c (customer_id)
    WHERE (EXISTS (SELECT FROM budgets WHERE ended_at IS NULL)
           AND EXISTS (SELECT FROM budgets b WHERE b.ended_at IS NULL AND b.customer_id IN (c.customer_id, '')))
       OR (EXISTS (SELECT FROM holds WHERE state = 'open')
           AND EXISTS (SELECT FROM holds h WHERE h.state = 'open' AND h.customer_id = c.customer_id))
       OR ({HAS_GRANTS})
    """
)


def customers_to_post(connection: Connection, customer_ids: Iterable[str]) -> frozenset[str]:
    """Those of these customers that have a budget, also one of the deployment, an open hold or a grant."""
    return frozenset(connection.execute(_CUSTOMERS, {"customer_ids": list(customer_ids)}).scalars())

"""The query that finds whose bookings have to be posted."""

from collections.abc import Iterable

from sqlalchemy import Connection, text

from metering.budgets.budget import DEPLOYMENT

# The conditions without a customer are evaluated once: where there is no hold or grant, none is looked at. A grant
# that is used up counts too: it may get something back.
_CUSTOMERS = text(
    """
    SELECT customer_id FROM budgets
    WHERE ended_at IS NULL AND (customer_id = ANY(:customer_ids) OR customer_id = '')
    UNION SELECT customer_id FROM holds WHERE state = 'open' AND customer_id = ANY(:customer_ids)
          AND EXISTS (SELECT 1 FROM holds WHERE state = 'open')
    UNION SELECT customer_id FROM grants WHERE customer_id = ANY(:customer_ids) AND EXISTS (SELECT 1 FROM grants)
    """
)


def customers_to_post(connection: Connection, customer_ids: Iterable[str]) -> frozenset[str]:
    """Those of these customers that have a budget, also one of the deployment, an open hold or a grant."""
    wanted = frozenset(customer_ids)
    found = frozenset(connection.execute(_CUSTOMERS, {"customer_ids": list(wanted)}).scalars())
    return wanted if DEPLOYMENT in found else found

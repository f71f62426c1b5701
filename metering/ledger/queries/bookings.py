"""Find charges, adjustments, credits and corrections by their ids.

No index has the ids of charges: they are hashes, so that each insertion would write to another page of the index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, text

# Read newest first by the index of their ends: some 20 ms.
_LATEST_CHARGES = 10_000
_LIMIT = 8
_CHARGE, _ADJUSTMENT = "ch_", "adj_"

_BY_CHARGE = text(
    """
    SELECT latest.charge_id AS entry_id, 'charge' AS kind, latest.customer_id, latest.stream_id, latest.booked_at,
           latest.usd_cents
    FROM (SELECT charge_id, customer_id, stream_id, booked_at, usd_cents FROM charges
          ORDER BY ended_at DESC, customer_id DESC, stream_id DESC LIMIT :latest) AS latest
    WHERE latest.charge_id = :entry_id
      AND (CAST(:customer_id AS text) IS NULL OR latest.customer_id = :customer_id)
    LIMIT :limit
    """
)
# The primary keys begin with the customer, so this looks the id up once per customer: microseconds each.
_BY_ADJUSTMENT = text(
    """
    SELECT adjustment_id AS entry_id, 'adjustment' AS kind, a.customer_id, stream_id, booked_at, usd_cents
    FROM customers c JOIN adjustments a ON a.customer_id = c.customer_id AND adjustment_id = :entry_id
    WHERE CAST(:customer_id AS text) IS NULL OR c.customer_id = :customer_id
    UNION ALL
    SELECT adjustment_id, m.kind, m.customer_id, stream_id, booked_at, usd_cents
    FROM customers c JOIN manual_adjustments m ON m.customer_id = c.customer_id AND adjustment_id = :entry_id
    WHERE CAST(:customer_id AS text) IS NULL OR c.customer_id = :customer_id
    LIMIT :limit
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBooking:
    """A booking that a search found; `stream_id` is None for a credit or correction of the customer as a whole."""

    entry_id: str
    kind: str
    customer_id: str
    stream_id: str | None
    booked_at: datetime
    usd_cents: Decimal


def find_bookings(connection: Connection, *, entry_id: str, customer_id: str | None) -> Sequence[FoundBooking]:
    """The bookings with this id, of one customer or of any (None): a charge among the latest, an adjustment of any
    time."""
    given = {"entry_id": entry_id, "customer_id": customer_id, "limit": _LIMIT}
    if entry_id.startswith(_CHARGE):
        rows = connection.execute(_BY_CHARGE, {**given, "latest": _LATEST_CHARGES})
    elif entry_id.startswith(_ADJUSTMENT):
        rows = connection.execute(_BY_ADJUSTMENT, given)
    else:
        return []
    return [FoundBooking(**row._mapping) for row in rows]

"""Where a month begins and ends for each customer, as its invoice has it."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from metering.core.period import BillingPeriod
from metering.core.time_zones import shown_zone
from metering.db.rows import json_rows

_BOUNDS = text(
    """
    SELECT w.customer_id, c.time_zone, closed.starts_at, closed.ends_at, before.ends_at AS closed_until
    FROM json_to_recordset(CAST(:wanted AS json)) AS w (customer_id text, period text)
    JOIN customers c ON c.customer_id = w.customer_id
    LEFT JOIN billing_periods closed ON closed.customer_id = w.customer_id AND closed.period = w.period
    LEFT JOIN LATERAL (SELECT p.ends_at FROM billing_periods p
                       WHERE p.customer_id = w.customer_id AND p.period < w.period
                       ORDER BY p.period DESC LIMIT 1) AS before ON true
    """
)


def month_bounds(
    connection: Connection, months: Mapping[str, BillingPeriod]
) -> Mapping[str, tuple[datetime, datetime]]:
    """Start and end (exclusive) of a month of each customer, as its invoice has them or will have them.

    Those of a closed month are stored. An open month begins where the one before it was closed, which may have
    been in another time zone.
    """
    wanted = json_rows({"customer_id": each, "period": str(period)} for each, period in months.items())
    found: dict[str, tuple[datetime, datetime]] = {}
    for row in connection.execute(_BOUNDS, {"wanted": wanted}):
        starts_at, ends_at = row.starts_at, row.ends_at
        if starts_at is None:
            period, zone = months[row.customer_id], shown_zone(row.time_zone)
            starts_at, ends_at = period.bounds(time_zone=zone, closed_until=row.closed_until)
        found[row.customer_id] = (starts_at.astimezone(UTC), ends_at.astimezone(UTC))
    return found


# Whole hours come from the hourly sums. Where a month begins or ends within an hour, as in zones offset by half an
# hour, that part of the hour is read from the bills: once for all customers with the same bounds.

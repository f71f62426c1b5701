"""Where a month begins and ends for each customer, as its invoice has it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE, shown_zone
from metering.customers.queries.time_zones import time_zones_in_use
from metering.db.rows import json_rows

_BOUNDS = text(
    """
    WITH closed AS MATERIALIZED (
        SELECT p.customer_id, max(p.starts_at) FILTER (WHERE p.period = w.period) AS starts_at,
               max(p.ends_at) FILTER (WHERE p.period = w.period) AS ends_at,
               max(p.ends_at) FILTER (WHERE p.period < w.period) AS closed_until
        FROM json_to_recordset(CAST(:wanted AS json)) AS w (customer_id text, period text)
        JOIN billing_periods p ON p.customer_id = w.customer_id AND p.period <= w.period GROUP BY 1
    )
    SELECT c.customer_id, c.time_zone, closed.starts_at, closed.ends_at, closed.closed_until
    FROM customers c LEFT JOIN closed ON closed.customer_id = c.customer_id
    WHERE c.customer_id = ANY(:customer_ids)
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
    for row in connection.execute(_BOUNDS, {"wanted": wanted, "customer_ids": list(months)}):
        starts_at, ends_at = row.starts_at, row.ends_at
        if starts_at is None:
            period, zone = months[row.customer_id], shown_zone(row.time_zone)
            starts_at, ends_at = period.bounds(time_zone=zone, closed_until=row.closed_until)
        found[row.customer_id] = (starts_at.astimezone(UTC), ends_at.astimezone(UTC))
    return found


# Whole hours come from the hourly sums. Where a month begins or ends within an hour, as in zones offset by half an
# hour, that part of the hour is read from the bills: once for all customers with the same bounds.


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingMonths:
    """A month of all customers, each with the bounds of its own invoice.

    With `so_far`, only that long from each customer's start.
    """

    period: BillingPeriod
    so_far: timedelta | None = None

    def reaches_beyond(self, range_: tuple[datetime, datetime]) -> tuple[bool, bool]:
        """Whether a range within the month in UTC has its first hours, and its last.

        Then it also has those that customers have before, and after them.
        """
        starts_at, ends_at = self.in_utc
        return range_[0] <= starts_at, range_[1] >= ends_at

    @property
    def in_utc(self) -> tuple[datetime, datetime]:
        """The month of the customers that are in UTC, as far as it is meant."""
        starts_at, ends_at = (each.start(time_zone=UTC_ZONE) for each in (self.period, self.period.next))
        return starts_at, ends_at if self.so_far is None else min(starts_at + self.so_far, ends_at)


# How far from the start of a month the one before it may have ended: `BillingPeriod.bounds`.
_NEAR = "interval '2 days'"


def moved_months(prefix: str = "") -> str:
    """The definition of `{prefix}moved`: customers whose month has other bounds than UTC's, for WITH.

    Its columns are customer_id, starts_at and ends_at. The parameters are those of `moved_parameters`. There are
    few such customers, or few zones that lead to them: the others are not read.
    """
    p = prefix
    return f"""
    {p}moved AS MATERIALIZED (
        SELECT customer_id, starts_at,
               LEAST(ends_at, starts_at + CAST(:{p}so_far AS interval)) AS ends_at
        FROM (
            SELECT c.customer_id, coalesce(closed.ends_at, z.ends_at) AS ends_at,
                   coalesce(closed.starts_at, CASE WHEN before.ends_at BETWEEN z.starts_at - {_NEAR}
                                                        AND z.starts_at + {_NEAR}
                                                   THEN before.ends_at ELSE z.starts_at END) AS starts_at
            FROM (
                SELECT customer_id FROM customers WHERE time_zone = ANY(:{p}other_zones)
                UNION SELECT customer_id FROM billing_periods
                      WHERE period = :{p}period AND (starts_at <> :{p}starts_at OR ends_at <> :{p}month_ends_at)
                UNION SELECT customer_id FROM billing_periods
                      WHERE period = :{p}previous AND ends_at <> :{p}starts_at
            ) AS may_be
            JOIN customers c USING (customer_id)
            JOIN json_to_recordset(CAST(:{p}zones AS json))
                 AS z (time_zone text, starts_at timestamptz, ends_at timestamptz) USING (time_zone)
            LEFT JOIN billing_periods closed
                 ON closed.customer_id = c.customer_id AND closed.period = :{p}period
            LEFT JOIN billing_periods before
                 ON before.customer_id = c.customer_id AND before.period = :{p}previous
        ) AS months
    )
    """


def moved_parameters(connection: Connection, months: BillingMonths, *, prefix: str = "") -> dict[str, Any]:
    """The parameters of `moved_months`."""
    starts_at, ends_at = (each.start(time_zone=UTC_ZONE) for each in (months.period, months.period.next))
    zones = []
    for name in time_zones_in_use(connection):
        begin, end = months.period.bounds(time_zone=shown_zone(name), closed_until=None)
        zones.append({"time_zone": name, "starts_at": begin.astimezone(UTC), "ends_at": end.astimezone(UTC)})
    named = {
        "period": str(months.period),
        "previous": str(months.period.previous),
        "starts_at": starts_at,
        "month_ends_at": ends_at,
        "zones": json_rows(zones),
        "other_zones": [
            each["time_zone"] for each in zones if (each["starts_at"], each["ends_at"]) != (starts_at, ends_at)
        ],
        "so_far": months.so_far,
    }
    return {f"{prefix}{name}": value for name, value in named.items()}

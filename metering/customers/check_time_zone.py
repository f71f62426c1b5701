"""Check a time zone before it is stored or used: this service and the database must both know it, and agree."""

from datetime import datetime, timedelta

from sqlalchemy import Connection

from metering.core.errors import MeteringError
from metering.core.period import day_bounds
from metering.core.time_zones import find_zone, nearest_zone
from metering.customers.queries import zone_problems

# The days at whose starts both must agree. Data that was published later changes the rules of later days.
_DAYS_BACK, _DAYS_AHEAD = 62, 400


class UnknownTimeZoneError(MeteringError):
    """The time zone is not an IANA name, or this service and PostgreSQL differ about it."""


def check_time_zone(connection: Connection, *, time_zone: str, now: datetime) -> None:
    """Check that months and days of a time zone can be computed, by its IANA name as it is written there.

    Raises:
        UnknownTimeZoneError: it cannot; the text names the nearest valid zone, or says what differs.
    """
    zone = find_zone(time_zone)
    if zone is None:
        nearest = nearest_zone(time_zone)
        hint = f"; did you mean {nearest}?" if nearest else " such as Europe/Berlin"
        raise UnknownTimeZoneError(f"time_zone: {time_zone[:64]!r} is not an IANA time zone{hint}")
    today = now.astimezone(zone).date()
    days = (today + timedelta(days=days) for days in range(-_DAYS_BACK, _DAYS_AHEAD))
    starts = [day_bounds(day, time_zone=zone)[0] for day in days]
    problem = zone_problems(connection, [time_zone], at={time_zone: starts}).get(time_zone)
    if problem is not None:
        raise UnknownTimeZoneError(f"time_zone: {problem}")

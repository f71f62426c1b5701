"""Check a time zone before it is stored or used: this service and the database must mean the same by its name."""

from datetime import date, timedelta

from sqlalchemy import Connection

from metering.core.errors import MeteringError
from metering.core.period import day_bounds
from metering.core.time_zones import find_zone, nearest_zone
from metering.customers.queries.time_zones import zone_problems

# The days at whose starts both must agree. They are past: every version of the data has the same rules for them.
# So a name that PostgreSQL reads as an abbreviation (CET without daylight saving) is found, and a country that has
# just changed its rules is not refused.
_FIRST_DAY, _DAYS = date(2023, 1, 1), 730


class UnknownTimeZoneError(MeteringError):
    """The time zone is not an IANA name, or this service and PostgreSQL differ about it."""


def check_time_zone(connection: Connection, *, time_zone: str) -> None:
    """Check that months and days of a time zone can be computed, by its IANA name as it is written there.

    Raises:
        UnknownTimeZoneError: it cannot; the text names the nearest valid zone, or says what differs.
    """
    zone = find_zone(time_zone)
    if zone is None:
        nearest = nearest_zone(time_zone)
        hint = f"; did you mean {nearest}?" if nearest else " such as Europe/Berlin"
        raise UnknownTimeZoneError(f"time_zone: {time_zone[:64]!r} is not an IANA time zone{hint}")
    starts = [day_bounds(_FIRST_DAY + timedelta(days=day), time_zone=zone)[0] for day in range(_DAYS)]
    problem = zone_problems(connection, [time_zone], same_at=starts).get(time_zone)
    if problem is not None:
        raise UnknownTimeZoneError(f"time_zone: {problem}")

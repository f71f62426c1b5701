"""The time zones that customers are in, which of them are unusable, and how many months are overdue."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE, find_zone, shown_zone
from metering.db.rows import json_rows

# The index has the zones in order: each step finds the next one, however many customers are in a zone.
_IN_USE = text(
    """
    WITH RECURSIVE used (time_zone) AS (
        (SELECT time_zone FROM customers ORDER BY time_zone LIMIT 1)
        UNION ALL
        SELECT (SELECT c.time_zone FROM customers c WHERE c.time_zone > used.time_zone ORDER BY 1 LIMIT 1)
        FROM used WHERE used.time_zone IS NOT NULL
    )
    SELECT time_zone FROM used WHERE time_zone IS NOT NULL
    """
)


def time_zones_in_use(connection: Connection) -> Sequence[str]:
    """The time zones of all customers, each once. They are stored texts, and may be unusable."""
    return connection.execute(_IN_USE).scalars().all()


_LOCAL_TIMES = text(
    """
    SELECT p.time_zone, p.at, p.at AT TIME ZONE known_time_zone(p.time_zone) AS local_time
    FROM json_to_recordset(CAST(:probes AS json)) AS p (time_zone text, at timestamptz) ORDER BY p.time_zone, p.at
    """
)
_ANY_TIME = datetime(2024, 1, 1, tzinfo=UTC)


def zone_problems(
    connection: Connection, time_zones: Iterable[str], *, same_at: Sequence[datetime] = ()
) -> Mapping[str, str]:
    """Why each of these time zones is unusable; usable ones are left out.

    A zone is usable if its name is an IANA name, and PostgreSQL knows it too. With `same_at`, both also have to
    agree on its local time at these moments.
    """
    problems = {each: f"{each!r} is not an IANA time zone" for each in time_zones if find_zone(each) is None}
    probes = json_rows(
        {"time_zone": each, "at": moment}
        for each in time_zones
        if each not in problems
        for moment in (same_at or (_ANY_TIME,))
    )
    for row in connection.execute(_LOCAL_TIMES, {"probes": probes}):
        if row.time_zone in problems:
            continue
        if row.local_time is None:
            problems[row.time_zone] = f"PostgreSQL does not know the time zone {row.time_zone!r}"
        elif same_at and row.at.astimezone(shown_zone(row.time_zone)).replace(tzinfo=None) != row.local_time:
            problems[row.time_zone] = (
                f"PostgreSQL and this service have different rules for {row.time_zone!r} on {row.at:%Y-%m-%d}"
            )
    return problems


_IN_ZONES = text(
    """
    SELECT count(*) FROM (SELECT FROM customers WHERE time_zone = ANY(:time_zones) LIMIT 100000) AS counted
    """
)
_SOME_IN_ZONES = text(
    """
    SELECT customer_id, time_zone FROM customers WHERE time_zone = ANY(:time_zones)
    ORDER BY time_zone, customer_id LIMIT :limit
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusableZones:
    """Time zones of customers that are unusable now: why, how many customers, and the ids of the first ones."""

    problems: Mapping[str, str]
    customers: int
    first: Sequence[str]


def unusable_zones(connection: Connection, *, limit: int) -> UnusableZones:
    """The unusable time zones of customers.

    Counts up to 100,000 customers, and names up to `limit`.
    """
    problems = zone_problems(connection, time_zones_in_use(connection))
    if not problems:
        return UnusableZones(problems={}, customers=0, first=())
    zones = {"time_zones": sorted(problems)}
    return UnusableZones(
        problems=problems,
        customers=connection.execute(_IN_ZONES, zones).scalar_one(),
        first=[row.customer_id for row in connection.execute(_SOME_IN_ZONES, {**zones, "limit": limit})],
    )


# `last` has the latest month that is over, by zone. `latest` is at or after all of them, so that the index leads
# to the few customers before it.
_OVERDUE = text(
    """
    SELECT count(*) FROM (
        SELECT FROM json_to_recordset(CAST(:last AS json))
            AS last (time_zone text, period text, ends_at timestamptz)
        JOIN customers c ON c.time_zone = last.time_zone
        WHERE c.closed_through < :latest AND c.created_at < last.ends_at AND c.closed_through < last.period
        LIMIT 100000
    ) AS overdue
    """
)


def count_overdue_customers(connection: Connection, *, until: datetime) -> int:
    """How many customers have an open month that ended by `until`. Counts up to 100,000."""
    latest = BillingPeriod.containing(at=until + timedelta(days=1), time_zone=UTC_ZONE).previous
    last = []
    for name in time_zones_in_use(connection):
        zone = shown_zone(name)
        period = BillingPeriod.containing(at=until, time_zone=zone)
        ends_at = period.start(time_zone=zone).astimezone(UTC)
        last.append({"time_zone": name, "period": str(period.previous), "ends_at": ends_at})
    found: int = connection.execute(_OVERDUE, {"last": json_rows(last), "latest": str(latest)}).scalar_one()
    return found


_OF_CUSTOMERS = text("SELECT customer_id, time_zone FROM customers WHERE customer_id = ANY(:customer_ids)")


def time_zones_of(connection: Connection, customer_ids: Collection[str]) -> Mapping[str, str]:
    """The time zones of these customers, by id. They are stored texts, and may be unusable."""
    rows = connection.execute(_OF_CUSTOMERS, {"customer_ids": list(customer_ids)})
    return {row.customer_id: row.time_zone for row in rows}

"""Invariants of the totals: they are the sums of the bookings and of each other.

The newest bills are collected by a query of the audit's own, so that a fault in the query of the totals is found.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection, text

from metering.audit.difference import Check, Difference, rows_that_differ
from metering.events.usage import COUNTERS
from metering.ledger.rollups import DAILY_BY_KEY, DETAILED, DIMENSIONS, QUARTERLY_BY_MODEL, ROLLUPS, SUMS, Rollup
from metering.totals.queries.edges import edge_bills

_SUMMED = ", ".join(f"sum({name}) AS {name}" for name in SUMS)


def _compare(stored: str, derived: str, key: tuple[str, ...]) -> str:
    """A query for the groups whose sums differ; a group with zero sums equals a missing one."""
    same_key = " AND ".join(f"stored.{name} = derived.{name}" for name in key)
    shown = " || ' ' || ".join(f"coalesce(stored.{name}, derived.{name})::text" for name in key)
    pairs = [(f"coalesce(stored.{name}, 0)", f"coalesce(derived.{name}, 0)") for name in SUMS]
    wrong = " OR ".join(f"{a} <> {b}" for a, b in pairs)
    says = ", ".join(
        f"CASE WHEN {a} <> {b} THEN format('{name}: stored %s, derived %s', {a}, {b}) END"
        for name, (a, b) in zip(SUMS, pairs, strict=True)
    )
    return f"""
        SELECT {shown} AS key, concat_ws('; ', {says}) AS says
        FROM ({stored}) AS stored FULL JOIN ({derived}) AS derived ON {same_key}
        WHERE {wrong}
    """


_HOURLY_KEY = ("customer_id", "hour", *DIMENSIONS[1:])
_HOURLY_COLUMNS = ", ".join((*_HOURLY_KEY, *SUMS))
_BY_HOURLY_KEY = f"GROUP BY {', '.join(_HOURLY_KEY)}"
_STORED_HOURS = f"""
    SELECT {", ".join(_HOURLY_KEY)}, {_SUMMED} FROM (
        SELECT {_HOURLY_COLUMNS} FROM totals_hourly WHERE hour >= :begin AND hour < :end
        UNION ALL SELECT {_HOURLY_COLUMNS} FROM totals_pending WHERE hour >= :begin AND hour < :end
    ) AS hours {_BY_HOURLY_KEY}
"""
_NEWEST_BILLS = f"""
    SELECT c.ended_at, c.customer_id, c.provider, c.model, c.api_key_id, c.outcome, c.usage_source, c.retry_of,
           c.inlet, {", ".join(f"c.{name}" for name in COUNTERS)}, c.usd_cents, c.upstream_usd_cents
    FROM charges c LEFT JOIN adjustments a ON a.customer_id = c.customer_id AND a.stream_id = c.stream_id
    WHERE a.stream_id IS NULL AND c.ended_at >= :begin AND c.ended_at < :end
    UNION ALL
    SELECT ended_at, customer_id, provider, model, api_key_id, outcome, usage_source, retry_of, inlet,
           {", ".join(COUNTERS)}, bill_usd_cents, upstream_usd_cents
    FROM (SELECT DISTINCT ON (customer_id, stream_id) * FROM adjustments
          ORDER BY customer_id, stream_id, revision DESC) AS newest
    WHERE NOT taken_back AND ended_at >= :begin AND ended_at < :end
"""
_BOOKED = f"""
    SELECT customer_id, ended_at AS at, date_trunc('hour', ended_at) AS hour, provider, model,
           coalesce(api_key_id, '') AS api_key_id, outcome, usage_source,
           CASE WHEN retry_of IS NULL THEN 'false' ELSE 'true' END AS retry, inlet,
           1 AS stream_count, {", ".join(f"coalesce({name}, 0) AS {name}" for name in COUNTERS)}, usd_cents,
           upstream_usd_cents
    FROM ({_NEWEST_BILLS}) AS bills
    UNION ALL
    SELECT customer_id, filed_at, date_trunc('hour', filed_at), provider, model, api_key_id, outcome, usage_source,
           retry, inlet, 0, {", ".join("0" for _ in COUNTERS)}, usd_cents, 0
    FROM manual_adjustments WHERE filed_at >= :begin AND filed_at < :end
"""
_DERIVED_HOURS = f"SELECT {', '.join(_HOURLY_KEY)}, {_SUMMED} FROM ({_BOOKED}) AS booked {_BY_HOURLY_KEY}"
# Hours that an earlier release summed as a whole have no quarters.
_QUARTERS_KEY = ("quarter", *QUARTERLY_BY_MODEL.dimensions)
_QUARTERS_COLUMNS = ", ".join((*QUARTERLY_BY_MODEL.dimensions, *SUMS))
_IN_QUARTERS = """hour NOT IN (
    SELECT hour FROM totals_hourly_by_model WHERE hour = date_trunc('hour', hour)
    UNION ALL SELECT hour FROM totals_pending WHERE quarter IS NULL)"""
_STORED_QUARTERS = f"""
    SELECT {", ".join(_QUARTERS_KEY)}, {_SUMMED} FROM (
        SELECT quarter, date_trunc('hour', quarter) AS hour, {_QUARTERS_COLUMNS} FROM totals_quarterly_by_model
        WHERE quarter >= :begin AND quarter < :end
        UNION ALL
        SELECT hour + make_interval(mins => quarter * 15), hour, {_QUARTERS_COLUMNS}
        FROM totals_pending WHERE hour >= :begin AND hour < :end
    ) AS quarters WHERE {_IN_QUARTERS} GROUP BY {", ".join(_QUARTERS_KEY)}
"""
_DERIVED_QUARTERS = f"""
    SELECT {", ".join(_QUARTERS_KEY)}, {_SUMMED} FROM (
        SELECT date_bin('15 minutes', at, hour) AS quarter, hour, {_QUARTERS_COLUMNS}
        FROM ({_BOOKED}) AS booked
    ) AS quarters WHERE {_IN_QUARTERS} GROUP BY {", ".join(_QUARTERS_KEY)}
"""


_KEYS_ARE_INCOMPLETE = text(
    "SELECT EXISTS (SELECT FROM totals_rolled_up WHERE keyed_at IS DISTINCT FROM rolled_up_at)"
)


def check_hourly_totals(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """The totals of an hour are the sums of the newest bills that ended in it and of its manual adjustments."""
    query = _compare(_STORED_HOURS, _DERIVED_HOURS, _HOURLY_KEY)
    return rows_that_differ(connection, DETAILED.table, query, begin, end)


def check_quarters(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """The totals of a quarter of an hour are the sums of what ended in it."""
    query = _compare(_STORED_QUARTERS, _DERIVED_QUARTERS, _QUARTERS_KEY)
    return rows_that_differ(connection, QUARTERLY_BY_MODEL.table, query, begin, end)


def check_edge_bills(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """The bills that the totals read one by one, for a part of an hour, sum to the same as the hours."""
    bills = edge_bills(within=lambda column: f"{column} >= :begin AND {column} < :end")
    read = f"SELECT {', '.join(_HOURLY_KEY)}, {_SUMMED} FROM ({bills}) AS bills {_BY_HOURLY_KEY}"
    query = _compare(read, _DERIVED_HOURS, _HOURLY_KEY)
    return rows_that_differ(connection, "edge bills", query, begin, end, customer_id=None)


def check_rollups(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Every less detailed, daily or monthly sum is the sum of its hours.

    Sums by API key are not read while an earlier release rolls up, too, and are completed afterwards.
    """
    incomplete = connection.execute(_KEYS_ARE_INCOMPLETE).scalar_one()
    for rollup in ROLLUPS:
        if rollup is not DETAILED and not (rollup is DAILY_BY_KEY and incomplete):
            query = _compare(*_rollup_queries(rollup), rollup.key)
            yield from rows_that_differ(connection, rollup.table, query, begin, end)


def _rollup_queries(rollup: Rollup) -> tuple[str, str]:
    bucket = f"date_trunc('{rollup.bucket}', hour) AS {rollup.bucket}"
    within = f">= date_trunc('{rollup.bucket}', CAST(:begin AS timestamptz))"
    columns = [bucket if name == rollup.bucket else name for name in rollup.key]
    places = ", ".join(str(place + 1) for place in range(len(columns)))
    stored = f"""
        SELECT {", ".join(columns)}, {_SUMMED} FROM (
            SELECT {", ".join((*rollup.key, *SUMS)).replace(rollup.bucket, f"{rollup.bucket} AS hour", 1)}
            FROM {rollup.table} WHERE {rollup.bucket} {within} AND {rollup.bucket} < :end
        ) AS summed GROUP BY {places}
    """
    derived = f"""
        SELECT {", ".join(columns)}, {_SUMMED} FROM totals_hourly
        WHERE date_trunc('{rollup.bucket}', hour) {within} AND date_trunc('{rollup.bucket}', hour) < :end
        GROUP BY {places}
    """
    return stored, derived


TOTAL_CHECKS: tuple[Check, ...] = (check_hourly_totals, check_quarters, check_edge_bills, check_rollups)

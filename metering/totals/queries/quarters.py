"""Parts of an hour that begin and end at quarters, as days of zones do that are offset by half an hour.

They are summed from `totals_quarterly_by_model`. Hours that an earlier release summed as a whole, and questions
with other dimensions, are read from the bills.
"""

from collections.abc import Callable

from metering.ledger.rollups import QUARTERED, QUARTERLY_BY_MODEL, START_OF_QUARTER, Rollup

# `quarters` are the stretches with the parameter's name; `whole_hours` those of their hours that have no quarters.
WITH_QUARTERS = f"""
    quarters AS MATERIALIZED (
        SELECT from_, to_, date_trunc('hour', from_) AS of_hour
        FROM jsonb_to_recordset(CAST(:quarters AS jsonb)) AS q (from_ timestamptz, to_ timestamptz)
    ),
    whole_hours AS MATERIALIZED (
        SELECT hour FROM {QUARTERED.table} WHERE hour IN (SELECT of_hour FROM quarters)
        UNION SELECT hour FROM totals_pending WHERE quarter IS NULL AND hour IN (SELECT of_hour FROM quarters)
    )
"""
_IS_WHOLE = "of_hour IN (SELECT hour FROM whole_hours)"


def stretches_of_bills(hourly: Rollup) -> str:
    """A query for the stretches that are read from the bills, when hours are summed from this rollup."""
    return f"""
        SELECT from_, to_ FROM jsonb_to_recordset(CAST(:bills AS jsonb)) AS b (from_ timestamptz, to_ timestamptz)
        UNION ALL SELECT from_, to_ FROM quarters {f"WHERE {_IS_WHOLE}" if hourly is QUARTERED else ""}
    """


def quarter_rows(hourly: Rollup, *, keys: Callable[[str], str], measures: str, only: str) -> list[str]:
    """Queries of the sums of quarters; there are none for a rollup of hours whose quarters are not kept."""
    if hourly is not QUARTERED:
        return []
    pending = f"(SELECT {START_OF_QUARTER} AS at, p.* FROM totals_pending p WHERE quarter IS NOT NULL)"
    return [
        f"""
        SELECT {keys(at)}, {measures} FROM {table} AS summed
        JOIN quarters ON {at} >= from_ AND {at} < to_ WHERE NOT {_IS_WHOLE} AND {only}
        """
        for table, at in ((QUARTERLY_BY_MODEL.table, QUARTERLY_BY_MODEL.bucket), (pending, "at"))
    ]

"""Days by API key and inlet, which have sums of their own: read while these are complete.

They are not while an earlier release rolls up, too, until they have been completed. Then the sums of all
dimensions are read. Both say the same; the latter are more than ten times as many rows.
"""

from collections.abc import Sequence

from metering.ledger.rollups import DAILY, DAILY_BY_KEY, Rollup

# Each roll-up of this release says that it wrote these sums; one of an earlier release does not.
WITH_KEYED_DAYS = """
    keyed_days AS MATERIALIZED (
        SELECT coalesce(bool_and(keyed_at = rolled_up_at), false) AS are_complete FROM totals_rolled_up
    )
"""
_COMPLETE = "(SELECT are_complete FROM keyed_days)"


def tables_of_days(daily: Rollup) -> Sequence[tuple[Rollup, str]]:
    """The tables to read instead of this one, each with the condition under which its rows count."""
    if daily is not DAILY_BY_KEY:
        return [(daily, "true")]
    return [(daily, _COMPLETE), (DAILY[-1], f"NOT {_COMPLETE}")]

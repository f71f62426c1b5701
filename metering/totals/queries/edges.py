"""Bills of parts of an hour, which are read one by one because the sums are by whole hours."""

from collections.abc import Callable

from metering.events.usage import COUNTERS


def within_edges(column: str, *, prefix: str = "") -> str:
    """The condition that a time is in one of two half-open ranges: `head`..`head_end` and `tail`..`tail_end`."""
    return (
        f"(({column} >= :{prefix}head AND {column} < :{prefix}head_end)"
        f" OR ({column} >= :{prefix}tail AND {column} < :{prefix}tail_end))"
    )


def edge_bills(*, within: Callable[[str], str], joined: str = "", more: str = "") -> str:
    """A query for the newest bills, and manual adjustments, whose end meets the condition `within`.

    Its columns include the time of the end, `at`, and its `hour`. `joined` is added to FROM, for use in `within`
    and in `more`, further columns. The query takes the parameter `customer_id`.
    """
    return f"""
    SELECT b.ended_at AS at, date_trunc('hour', b.ended_at) AS hour, b.customer_id, b.provider, b.model,
           coalesce(b.api_key_id, '') AS api_key_id, b.outcome, b.usage_source,
           CAST(b.retry_of IS NOT NULL AS text) AS retry, b.inlet, 1 AS stream_count,
           {", ".join(f"coalesce(b.{name}, 0) AS {name}" for name in COUNTERS)}, b.bill_usd_cents AS usd_cents,
           b.upstream_usd_cents {more}
    FROM newest_bills b {joined}
    WHERE {within("b.ended_at")} AND (CAST(:customer_id AS text) IS NULL OR b.customer_id = :customer_id)
      AND NOT b.taken_back
    UNION ALL
    SELECT m.filed_at, date_trunc('hour', m.filed_at), m.customer_id, m.provider, m.model, m.api_key_id, m.outcome,
           m.usage_source, m.retry, m.inlet, 0, {", ".join("0" for _ in COUNTERS)}, m.usd_cents, 0 {more}
    FROM manual_adjustments m {joined}
    WHERE {within("m.filed_at")} AND (CAST(:customer_id AS text) IS NULL OR m.customer_id = :customer_id)
"""

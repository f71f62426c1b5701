"""Bills that ended within parts of an hour, which the hourly sums cannot tell apart: read one by one."""

from collections.abc import Callable

from metering.events.usage import COUNTERS


def within_edges(column: str, *, prefix: str = "") -> str:
    """Whether a moment is in one of two half-open ranges: parameters `head`..`head_end` and `tail`..`tail_end`."""
    return (
        f"(({column} >= :{prefix}head AND {column} < :{prefix}head_end)"
        f" OR ({column} >= :{prefix}tail AND {column} < :{prefix}tail_end))"
    )


_COUNTERS_OF_CHARGE = ", ".join(f"coalesce(c.{name}, 0) AS {name}" for name in COUNTERS)
_COUNTERS_OF_BILL = ", ".join(
    f"coalesce(CAST(a.bill -> 'usage' ->> '{name}' AS numeric), 0) AS {name}" for name in COUNTERS
)


def edge_bills(*, within: Callable[[str], str], joined: str = "") -> str:
    """The newest bills that ended where `within` says, with when: `at`, and its `hour`.

    `joined` is a further item of FROM, which `within` may use. Takes the parameter `customer_id`. A stream's
    newest bill is its last adjustment's, or else its charge's.
    """
    return f"""
    SELECT c.ended_at AS at, date_trunc('hour', c.ended_at) AS hour, c.customer_id, c.provider, c.model,
           coalesce(c.api_key_id, '') AS api_key_id, c.outcome, c.usage_source,
           CAST(c.retry_of IS NOT NULL AS text) AS retry, 1 AS stream_count, {_COUNTERS_OF_CHARGE}, c.usd_cents
    FROM charges c {joined}
    WHERE {within("c.ended_at")} AND (CAST(:customer_id AS text) IS NULL OR c.customer_id = :customer_id)
      AND NOT EXISTS (SELECT FROM adjustments a WHERE (a.customer_id, a.stream_id) = (c.customer_id, c.stream_id))
    UNION ALL
    SELECT a.ended_at, date_trunc('hour', a.ended_at), a.customer_id, a.bill ->> 'provider', a.bill ->> 'model',
           coalesce(a.bill ->> 'api_key_id', ''), a.bill ->> 'outcome', a.bill ->> 'usage_source',
           CAST(a.bill ->> 'retry_of' IS NOT NULL AS text), 1, {_COUNTERS_OF_BILL},
           (SELECT coalesce(sum(CAST(line ->> 'usd_cents' AS numeric)), 0)
            FROM jsonb_array_elements(a.bill -> 'lines') AS line)
    FROM adjustments a {joined}
    WHERE {within("a.ended_at")} AND (CAST(:customer_id AS text) IS NULL OR a.customer_id = :customer_id)
      AND NOT EXISTS (SELECT FROM adjustments newer WHERE newer.customer_id = a.customer_id
                      AND newer.stream_id = a.stream_id AND newer.revision > a.revision)
    UNION ALL
    SELECT m.filed_at, date_trunc('hour', m.filed_at), m.customer_id, m.provider, m.model, m.api_key_id, m.outcome,
           m.usage_source, m.retry, 0, {", ".join("0" for _ in COUNTERS)}, m.usd_cents
    FROM manual_adjustments m {joined}
    WHERE {within("m.filed_at")} AND (CAST(:customer_id AS text) IS NULL OR m.customer_id = :customer_id)
"""

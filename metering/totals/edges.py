"""Bills that ended within parts of an hour, which the hourly sums cannot tell apart: read one by one."""

from collections.abc import Callable

from metering.domain.usage import COUNTERS

_COUNTERS_OF_CHARGE = ", ".join(f"coalesce(c.{name}, 0) AS {name}" for name in COUNTERS)
_COUNTERS_OF_BILL = ", ".join(
    f"coalesce(CAST(a.bill -> 'usage' ->> '{name}' AS numeric), 0) AS {name}" for name in COUNTERS
)


def bills_within(within: Callable[[str], str]) -> str:
    """A query for the bills whose end is `within`, which makes a condition on a column.

    It takes the parameter `customer_id`. A stream's newest bill is its last adjustment's, or else its charge's.
    """
    return f"""
        SELECT date_trunc('hour', c.ended_at) AS hour, c.customer_id, c.provider, c.model,
               coalesce(c.api_key_id, '') AS api_key_id, c.outcome, c.usage_source,
               CAST(c.retry_of IS NOT NULL AS text) AS retry, 1 AS stream_count, {_COUNTERS_OF_CHARGE}, c.usd_cents
        FROM charges c
        WHERE {within("c.ended_at")} AND (CAST(:customer_id AS text) IS NULL OR c.customer_id = :customer_id)
          AND NOT EXISTS (SELECT FROM adjustments a
                          WHERE (a.customer_id, a.stream_id) = (c.customer_id, c.stream_id))
        UNION ALL
        SELECT date_trunc('hour', a.ended_at), a.customer_id, a.bill ->> 'provider', a.bill ->> 'model',
               coalesce(a.bill ->> 'api_key_id', ''), a.bill ->> 'outcome', a.bill ->> 'usage_source',
               CAST(a.bill ->> 'retry_of' IS NOT NULL AS text), 1, {_COUNTERS_OF_BILL},
               (SELECT coalesce(sum(CAST(line ->> 'usd_cents' AS numeric)), 0)
                FROM jsonb_array_elements(a.bill -> 'lines') AS line)
        FROM adjustments a
        WHERE {within("a.ended_at")} AND (CAST(:customer_id AS text) IS NULL OR a.customer_id = :customer_id)
          AND NOT EXISTS (SELECT FROM adjustments newer WHERE newer.customer_id = a.customer_id
                          AND newer.stream_id = a.stream_id AND newer.revision > a.revision)
        UNION ALL
        SELECT date_trunc('hour', m.filed_at), m.customer_id, m.provider, m.model, m.api_key_id, m.outcome,
               m.usage_source, m.retry, 0, {", ".join("0" for _ in COUNTERS)}, m.usd_cents
        FROM manual_adjustments m
        WHERE {within("m.filed_at")} AND (CAST(:customer_id AS text) IS NULL OR m.customer_id = :customer_id)
    """


def _at_either_end(column: str) -> str:
    return f"(({column} >= :head AND {column} < :head_end) OR ({column} >= :tail AND {column} < :tail_end))"


# Of two half-open ranges, the parameters `head`..`head_end` and `tail`..`tail_end`.
EDGE_BILLS = bills_within(_at_either_end)

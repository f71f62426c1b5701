"""How the usage of a stream came in: on its bill, and as a dimension of the totals."""

from alembic import op

revision = "0021_inlets"
down_revision = "0020_retry_keys"
branch_labels = None
depends_on = None

# Older code finalizes and reads as before. It cannot roll up totals any more, since the key of the sums has one more
# column: what it appends waits for newer code, and is read from where it waits.
OLDEST_CODE = "0017_compatible"

INLETS = "('events', 'litellm', 'otlp', 'openmeter', 'access_log')"
FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"

# A run that is stopped half-way begins again here, so each statement can be repeated.
BILLS = "".join(
    f"""
ALTER TABLE {table} ADD COLUMN IF NOT EXISTS inlet text NOT NULL DEFAULT 'events',
    DROP CONSTRAINT IF EXISTS {table}_inlet_check,
    ADD CONSTRAINT {table}_inlet_check CHECK (inlet IN {INLETS}) NOT VALID;
"""
    for table in ("charges", "adjustments")
)
# As in totals, the inlet of an amount without a stream is unknown: "".
TOTALS = "".join(
    f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS inlet text NOT NULL DEFAULT 'events';\n"
    for table in ("manual_adjustments", "totals_pending", "totals_hourly", "totals_daily", "totals_monthly")
)
KEY = ("provider", "model", "api_key_id", "outcome", "usage_source", "retry")
BUCKETS = {"totals_hourly": "hour", "totals_daily": "day", "totals_monthly": "month"}


def new_key(table: str, bucket: str) -> tuple[str, ...]:
    """Statements that add the inlet to a table's primary key, without locking it for long."""
    columns = ", ".join(("customer_id", bucket, *KEY, "inlet"))
    return (
        "SET lock_timeout = 0",
        f"DROP INDEX CONCURRENTLY IF EXISTS {table}_by_inlet",
        f"CREATE UNIQUE INDEX CONCURRENTLY {table}_by_inlet ON {table} ({columns})",
        "SET lock_timeout = '1s'",
        f"""
        ALTER TABLE {table} DROP CONSTRAINT {table}_pkey,
            ADD CONSTRAINT {table}_pkey PRIMARY KEY USING INDEX {table}_by_inlet
        """,
    )


BEFORE = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)
COUNTERS = {
    "cache_write_1h_input_tokens": "bigint",
    "cache_read_input_audio_tokens": "bigint",
    "cache_read_input_image_tokens": "bigint",
    "input_image_tokens": "bigint",
    "input_video_tokens": "bigint",
    "output_image_tokens": "bigint",
    "output_video_tokens": "bigint",
    "citation_output_tokens": "bigint",
    "web_searches": "bigint",
    "storage_searches": "bigint",
    "input_audio_seconds": "numeric",
    "audio_seconds": "numeric",
    "input_characters": "bigint",
    "input_document_pages": "bigint",
    "input_annotated_document_pages": "bigint",
    "input_text_messages": "bigint",
}
ADDED = {
    **COUNTERS,
    "response_provider": "text",
    "price_source": "text",
    "upstream_usd_cents": "numeric",
    "flags": "text[]",
    "inlet": "text",
}
ADDED_NAMES = ", ".join(ADDED)
BILL = (
    "outcome",
    "provider",
    "model",
    "response_model",
    "api_key_id",
    "started_at",
    "ended_at",
    *BEFORE,
    "usage_source",
    "input_unknown",
    "cancel_policy",
    "cancel_policy_version",
    "rate_card_id",
    "rated_model",
    "model_rule",
    "markup_percent",
    "service_tier",
    "retry_of",
    "resolution",
    "lines",
)
BILL_TYPES = {
    **dict.fromkeys(BILL, "text"),
    **dict.fromkeys(BEFORE, "bigint"),
    **dict.fromkeys(("started_at", "ended_at"), "timestamptz"),
    "input_unknown": "boolean",
    "cancel_policy_version": "integer",
    "markup_percent": "numeric",
    "lines": "json",
}
CHARGED = {
    "charged_at": ("booked_at", "timestamptz"),
    "charged_period": ("period", "text"),
    "charged_ended_at": ("ended_at", "timestamptz"),
    "charged_provider": ("provider", "text"),
    "charged_model": ("model", "text"),
    "charged_usd_cents": ("usd_cents", "numeric"),
}
BILL_NAMES = ", ".join(BILL)
OF_A_CHARGE = ", ".join(f"{name} AS {charged}" for charged, (name, _) in CHARGED.items())
UNKNOWN = ", ".join(f"NULL::{kind}" for kind in ("boolean", *(kind for _, kind in CHARGED.values()), "numeric"))
NO_BILL = ", ".join(f"NULL::{kind}" for kind in (*BILL_TYPES.values(), *ADDED.values()))

RELATIONS = f"""
CREATE OR REPLACE VIEW entries AS
SELECT customer_id, period, charge_id AS entry_id, 'charge' AS kind, stream_id, charge_id, 0 AS revision, booked_at,
       ended_at AS filed_at, usd_cents, NULL AS reason, NULL AS booked_by, false AS taken_back, {OF_A_CHARGE},
       usd_cents AS bill_usd_cents, {BILL_NAMES}, {ADDED_NAMES}
FROM charges
UNION ALL
SELECT customer_id, period, adjustment_id, 'adjustment', stream_id, charge_id, revision, booked_at,
       ended_at, usd_cents, reason, NULL, taken_back, {", ".join(CHARGED)}, bill_usd_cents, {BILL_NAMES}, {ADDED_NAMES}
FROM adjustments
UNION ALL
SELECT customer_id, period, adjustment_id, kind, stream_id, NULL, NULL::integer, booked_at,
       filed_at, usd_cents, reason, booked_by, {UNKNOWN}, {NO_BILL}
FROM manual_adjustments;

CREATE OR REPLACE VIEW newest_bills AS
SELECT e.customer_id, e.stream_id, e.charge_id, e.revision, e.taken_back, {", ".join(f"e.{name}" for name in CHARGED)},
       e.bill_usd_cents, {", ".join(f"e.{name}" for name in (*BILL, *ADDED))}
FROM entries e
WHERE e.revision IS NOT NULL
  AND NOT EXISTS (SELECT FROM adjustments newer WHERE newer.customer_id = e.customer_id
                  AND newer.stream_id = e.stream_id AND newer.revision > e.revision);
"""

DAY_KEY = ("customer_id", "day", *KEY, "inlet")
SPARSE = (*COUNTERS, "upstream_usd_cents")
SUMS = ("stream_count", *BEFORE, "usd_cents")
DOLLARS = "* 0.01"
SAME_KEY = " AND ".join(f"d.{name} = p.{name}" for name in DAY_KEY)
DAILY_USAGE = f"""
CREATE OR REPLACE VIEW reporting.daily_usage AS
WITH pending AS NOT MATERIALIZED (
    SELECT customer_id, date_trunc('day', hour, 'UTC') AS day, {", ".join(DAY_KEY[2:])},
           sum(stream_count)::bigint AS stream_count,
           {", ".join(f"sum({name}) AS {name}" for name in (*SUMS[1:], *SPARSE))}
    FROM public.totals_pending GROUP BY {", ".join(str(place + 1) for place in range(len(DAY_KEY)))}
)
SELECT u.day, u.customer_id, c.name AS customer_name, nullif(u.provider, '') AS provider,
       nullif(u.model, '') AS model, nullif(u.api_key_id, '') AS api_key_id, nullif(u.outcome, '') AS outcome,
       nullif(u.usage_source, '') AS usage_source, u.retry = 'true' AS retry,
       {", ".join(f"u.{name}" for name in SUMS)}, u.usd_cents {DOLLARS} AS usd,
       {", ".join(f"coalesce(u.{name}, 0) AS {name}" for name in SPARSE)}, nullif(u.inlet, '') AS inlet
FROM (
    SELECT {", ".join(f"d.{name}" for name in (*DAY_KEY, *SUMS, *SPARSE))} FROM public.totals_daily d
    WHERE NOT EXISTS (SELECT FROM pending p WHERE {SAME_KEY})
    UNION ALL
    SELECT {", ".join(f"p.{name}" for name in DAY_KEY)},
           {", ".join(f"p.{name} + coalesce(d.{name}, 0) AS {name}" for name in SUMS)},
           {", ".join(f"coalesce(p.{name}, 0) + coalesce(d.{name}, 0) AS {name}" for name in SPARSE)}
    FROM pending p LEFT JOIN public.totals_daily d ON {SAME_KEY}
) AS u LEFT JOIN public.customers c ON c.customer_id = u.customer_id
WHERE u.stream_count <> 0 OR u.usd_cents <> 0
"""

TEXTS = ("outcome", "provider", "model", "response_model", "rated_model", "model_rule", "service_tier", "api_key_id")
TERMS = ("usage_source", "input_unknown", "cancel_policy", "cancel_policy_version", "rate_card_id", "markup_percent")
CHARGES = f"""
CREATE OR REPLACE VIEW reporting.charges AS
SELECT b.customer_id, k.name AS customer_name, b.stream_id, b.charge_id, b.charged_period AS period,
       b.charged_at AS booked_at, b.revision, b.started_at, b.ended_at, {", ".join(f"b.{name}" for name in TEXTS)},
       {", ".join(f"CASE WHEN NOT b.taken_back THEN b.{name} END AS {name}" for name in BEFORE)},
       {", ".join(f"b.{name}" for name in TERMS)}, b.retry_of IS NOT NULL AS retry, b.retry_of, b.resolution,
       b.lines::jsonb AS lines, b.charged_usd_cents, b.bill_usd_cents - b.charged_usd_cents AS adjusted_usd_cents,
       coalesce(m.usd_cents, 0) AS by_hand_usd_cents, b.bill_usd_cents + coalesce(m.usd_cents, 0) AS usd_cents,
       (b.bill_usd_cents + coalesce(m.usd_cents, 0)) {DOLLARS} AS usd,
       {", ".join(f"CASE WHEN NOT b.taken_back THEN b.{name} END AS {name}" for name in COUNTERS)},
       b.response_provider, b.price_source, b.upstream_usd_cents, array_to_string(b.flags, ' ') AS flags, b.inlet
FROM public.newest_bills b
LEFT JOIN (
    SELECT customer_id, stream_id, sum(usd_cents) AS usd_cents FROM public.manual_adjustments
    WHERE stream_id IS NOT NULL GROUP BY customer_id, stream_id
) AS m ON m.customer_id = b.customer_id AND m.stream_id = b.stream_id
LEFT JOIN public.customers k ON k.customer_id = b.customer_id
"""

SAYS = "How the usage came in: events, litellm, otlp, openmeter or access_log."
COMMENTS = {"daily_usage": f"{SAYS} NULL like provider.", "charges": SAYS}


def upgrade() -> None:
    op.execute(BILLS)
    op.execute(TOTALS)
    for view in (RELATIONS, DAILY_USAGE, CHARGES):
        op.execute(view.replace(":", r"\:"))
    for name, says in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN reporting.{name}.inlet IS '{says}'".replace(":", r"\:"))
    with op.get_context().autocommit_block():
        for table in ("charges", "adjustments"):
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {table}_inlet_check")
        for table, bucket in BUCKETS.items():
            for statement in new_key(table, bucket):
                op.execute(statement)

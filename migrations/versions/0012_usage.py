"""More kinds of usage, what is doubtful about a stream, and the upstream's own cost."""

from alembic import op

from migrations.reporting_comments import USAGE_KINDS

revision = "0012_usage"
down_revision = "0011_reporting"
branch_labels = None
depends_on = None

FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"
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
KINDS = (
    "input",
    "cache_read",
    "cache_read_audio",
    "cache_read_image",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "input_image",
    "input_video",
    "output",
    "reasoning",
    "citation",
    "output_audio",
    "output_image",
    "output_video",
    "audio_seconds",
    "input_audio_seconds",
    "input_characters",
    "input_document_pages",
    "input_annotated_document_pages",
    "input_text_messages",
    "web_searches",
    "storage_searches",
    "request",
)
BACKLOG = "('orphaned', 'unpriced', 'conflicting', 'unmeasured', 'misdated')"

RATES = f"""
-- USD per hour for kinds that are measured in seconds, else USD per million.
ALTER TABLE rates DROP CONSTRAINT rates_kind_check,
    ADD CHECK (kind IN ({", ".join(f"'{kind}'" for kind in KINDS)})),
    ALTER COLUMN usd_per_million DROP NOT NULL,
    ADD COLUMN usd_per_hour numeric CHECK (usd_per_hour >= 0 AND usd_per_hour {FINITE}),
    ADD CHECK ((usd_per_hour IS NULL) <> (kind IN ('audio_seconds', 'input_audio_seconds'))),
    ADD CHECK ((usd_per_million IS NULL) = (kind IN ('audio_seconds', 'input_audio_seconds')));

-- Whether what a provider says that a stream cost is its price where no rate is.
CREATE TABLE upstream_prices (
    provider       text NOT NULL CHECK (provider = lower(provider)),
    accepted       boolean NOT NULL,
    effective_from timestamptz NOT NULL,
    provenance     text NOT NULL,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (provider, effective_from)
);
GRANT SELECT, INSERT ON upstream_prices TO metering_service;
"""

STREAMS = f"""
-- When a start or an end arrived whose time is not believed, and by how much an event was ahead of its receipt.
ALTER TABLE streams
    ADD COLUMN start_received_at timestamptz,
    ADD COLUMN end_received_at timestamptz,
    ADD COLUMN clock_ahead_seconds bigint,
    DROP CONSTRAINT streams_state_check,
    ADD CHECK (state IN ('open', 'ended', 'finalized', 'orphaned', 'unpriced', 'conflicting', 'unmeasured', 'misdated'));
DROP INDEX streams_backlog;
CREATE INDEX streams_backlog ON streams (customer_id, state) WHERE state IN {BACKLOG};
ALTER TABLE resolutions DROP CONSTRAINT resolutions_action_check,
    ADD CHECK (action IN ('bill_as_is', 'bill_as_received', 'write_off'));
"""


def bills(table: str, amount: str) -> str:
    counted = ", ".join(f"ADD COLUMN {name} {kind} CHECK ({name} >= 0)" for name, kind in COUNTERS.items())
    return f"""
ALTER TABLE {table} {counted},
    ADD COLUMN response_provider text,
    ADD COLUMN price_source text NOT NULL DEFAULT 'rate_card' CHECK (price_source IN ('rate_card', 'upstream')),
    ADD COLUMN upstream_usd_cents numeric CHECK (upstream_usd_cents >= 0 AND upstream_usd_cents {FINITE}),
    ADD COLUMN flags text[] NOT NULL DEFAULT '{{}}',
    DROP CONSTRAINT {table}_check,
    ADD CONSTRAINT {table}_priced CHECK (rate_card_id IS NOT NULL OR price_source = 'upstream' OR {amount} = 0);
"""


FLAGGED = """
-- The few bills of which a person should know something, newest first.
CREATE INDEX charges_flagged ON charges (booked_at) WHERE flags <> '{}';
CREATE INDEX adjustments_flagged ON adjustments (booked_at) WHERE flags <> '{}';
"""

# A sum that is NULL takes no space, and most of these are.
SPARSE = (*COUNTERS, "upstream_usd_cents")
ROLLUPS = (
    "totals_pending",
    "totals_hourly",
    "totals_hourly_by_customer",
    "totals_hourly_by_model",
    "totals_daily",
    "totals_daily_by_customer",
    "totals_daily_by_model",
    "totals_monthly",
    "totals_monthly_by_customer",
)
TOTALS = "".join(
    f"ALTER TABLE {table} {', '.join(f'ADD COLUMN {name} numeric' for name in SPARSE)};\n" for table in ROLLUPS
)

ADDED = {**COUNTERS, "response_provider": "text", "price_source": "text", "upstream_usd_cents": "numeric", "flags": "text[]"}
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

KEY = ("customer_id", "day", "provider", "model", "api_key_id", "outcome", "usage_source", "retry")
SUMS = ("stream_count", *BEFORE, "usd_cents")
DOLLARS = "* 0.01"
SAME_KEY = " AND ".join(f"d.{name} = p.{name}" for name in KEY)
DAILY_USAGE = f"""
CREATE OR REPLACE VIEW reporting.daily_usage AS
WITH pending AS NOT MATERIALIZED (
    SELECT customer_id, date_trunc('day', hour, 'UTC') AS day, {", ".join(KEY[2:])},
           sum(stream_count)::bigint AS stream_count,
           {", ".join(f"sum({name}) AS {name}" for name in (*SUMS[1:], *SPARSE))}
    FROM public.totals_pending GROUP BY {", ".join(str(place + 1) for place in range(len(KEY)))}
)
SELECT u.day, u.customer_id, c.name AS customer_name, nullif(u.provider, '') AS provider,
       nullif(u.model, '') AS model, nullif(u.api_key_id, '') AS api_key_id, nullif(u.outcome, '') AS outcome,
       nullif(u.usage_source, '') AS usage_source, u.retry = 'true' AS retry,
       {", ".join(f"u.{name}" for name in SUMS)}, u.usd_cents {DOLLARS} AS usd,
       {", ".join(f"coalesce(u.{name}, 0) AS {name}" for name in SPARSE)}
FROM (
    SELECT {", ".join(f"d.{name}" for name in (*KEY, *SUMS, *SPARSE))} FROM public.totals_daily d
    WHERE NOT EXISTS (SELECT FROM pending p WHERE {SAME_KEY})
    UNION ALL
    SELECT {", ".join(f"p.{name}" for name in KEY)},
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
       b.response_provider, b.price_source, b.upstream_usd_cents, array_to_string(b.flags, ' ') AS flags
FROM public.newest_bills b
LEFT JOIN (
    SELECT customer_id, stream_id, sum(usd_cents) AS usd_cents FROM public.manual_adjustments
    WHERE stream_id IS NOT NULL GROUP BY customer_id, stream_id
) AS m ON m.customer_id = b.customer_id AND m.stream_id = b.stream_id
LEFT JOIN public.customers k ON k.customer_id = b.customer_id
"""

INVOICE_LINES = f"""
CREATE OR REPLACE VIEW reporting.invoice_lines AS
SELECT i.period, i.number, l.customer_id, c.name AS customer_name, l.invoice_id, i.created_at, p.state AS push_state,
       p.stripe_invoice_id, p.stripe_number, l.line_key, l.kind, l.provider, l.model, l.month, l.adjustment_id,
       l.reason, l.starts_at, l.ends_at, l.stream_count,
       {", ".join(f"coalesce((l.usage ->> '{name}')::numeric, 0) AS {name}" for name in BEFORE)},
       l.usd_cents, l.usd_cents {DOLLARS} AS usd, l.billed_cents, l.billed_cents {DOLLARS} AS billed_usd,
       {", ".join(f"coalesce((l.usage ->> '{name}')::numeric, 0) AS {name}" for name in COUNTERS)}
FROM public.invoice_lines l
JOIN public.invoices i ON i.customer_id = l.customer_id AND i.invoice_id = l.invoice_id
LEFT JOIN public.invoice_pushes p ON p.customer_id = l.customer_id AND p.invoice_id = l.invoice_id
LEFT JOIN public.customers c ON c.customer_id = l.customer_id
"""

RATES_VIEW = """
CREATE OR REPLACE VIEW reporting.rates AS
SELECT k.provider, k.model, k.customer_id, k.rate_card_id, k.effective_from, k.effective_to, r.kind,
       nullif(r.service_tier, '') AS service_tier,
       CASE WHEN r.daily_start <> r.daily_end THEN r.daily_start END AS daily_start,
       CASE WHEN r.daily_start <> r.daily_end THEN r.daily_end END AS daily_end,
       r.above_input_tokens, r.usd_per_million, r.provenance, k.created_at, r.usd_per_hour
FROM (
    SELECT rate_card_id, provider, model, customer_id, effective_from, created_at,
           lead(effective_from) OVER (PARTITION BY provider, model, customer_id ORDER BY effective_from) AS effective_to
    FROM public.rate_cards
) AS k JOIN public.rates r ON r.rate_card_id = k.rate_card_id
"""

# The states of the backlog are new, and a stream whose time is not believed belongs to the month of its receipt.
UNBILLED = """
DO $$
DECLARE defined text := pg_get_viewdef('reporting.unbilled');
BEGIN
    defined := replace(defined, '''conflicting''::text', '''conflicting''::text, ''unmeasured''::text, ''misdated''::text');
    defined := replace(defined, 'COALESCE(s.ended_at, s.last_event_at)',
                       'COALESCE(s.end_received_at, s.ended_at, s.last_event_at)');
    EXECUTE 'CREATE OR REPLACE VIEW reporting.unbilled AS ' || defined;
END $$
"""

COMMENTS = {
    "daily_usage": {**USAGE_KINDS, "upstream_usd_cents": "What the upstreams say that these streams cost, in cents."},
    "charges": {
        **USAGE_KINDS,
        "response_provider": "The provider that answered, where it was another one.",
        "price_source": "Where the price comes from: rate_card, or upstream.",
        "upstream_usd_cents": "What the upstream says that the stream cost, in cents; NULL if it says nothing.",
        "flags": "What a person should know of the bill: clock_skew, inconsistent_usage, output_unknown, parent_rate.",
    },
    "invoice_lines": USAGE_KINDS,
    "rates": {"usd_per_hour": "US dollars per hour, for kinds that are measured in seconds."},
}


def upgrade() -> None:
    op.execute(RATES)
    op.execute(STREAMS)
    op.execute(bills("charges", "usd_cents"))
    op.execute(bills("adjustments", "bill_usd_cents"))
    op.execute(FLAGGED)
    op.execute(TOTALS)
    for view in (RELATIONS, DAILY_USAGE, CHARGES, INVOICE_LINES, RATES_VIEW, UNBILLED):
        op.execute(view.replace(":", r"\:"))
    for name, columns in COMMENTS.items():
        for column, says in columns.items():
            op.execute(f"COMMENT ON COLUMN reporting.{name}.{column} IS '{says}'".replace(":", r"\:"))

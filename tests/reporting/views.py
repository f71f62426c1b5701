"""The reporting views as a reader sees them."""

from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.database import Database

PAGE = (Path(__file__).parents[2] / "docs" / "reporting.md").read_text()
USAGE = (
    "input_tokens {0}, output_tokens {0}, cache_read_input_tokens {0}, cache_write_input_tokens {0}, "
    "reasoning_output_tokens {0}, input_audio_tokens {0}, output_audio_tokens {0}"
)
MORE_USAGE = (
    "cache_write_1h_input_tokens {0}, cache_read_input_audio_tokens {0}, cache_read_input_image_tokens {0}, "
    "input_image_tokens {0}, input_video_tokens {0}, output_image_tokens {0}, output_video_tokens {0}, "
    "citation_output_tokens {0}, web_searches {0}, storage_searches {0}, input_audio_seconds numeric, "
    "audio_seconds numeric, input_characters {0}, input_document_pages {0}, "
    "input_annotated_document_pages {0}, input_text_messages {0}"
)
# What was promised. A new column is added here; whatever is here stays.
PROMISED = {
    "daily_usage": "day timestamptz, customer_id text, customer_name text, provider text, model text, "
    "api_key_id text, outcome text, usage_source text, retry boolean, stream_count bigint, "
    f"{USAGE.format('numeric')}, usd_cents numeric, usd numeric, {MORE_USAGE.format('numeric')}, "
    "upstream_usd_cents numeric, inlet text",
    "charges": "customer_id text, customer_name text, stream_id text, charge_id text, period text, "
    "booked_at timestamptz, revision integer, started_at timestamptz, ended_at timestamptz, outcome text, "
    "provider text, model text, response_model text, rated_model text, model_rule text, service_tier text, "
    f"api_key_id text, {USAGE.format('bigint')}, usage_source text, input_unknown boolean, cancel_policy text, "
    "cancel_policy_version integer, rate_card_id text, markup_percent numeric, retry boolean, retry_of text, "
    "resolution text, lines jsonb, charged_usd_cents numeric, adjusted_usd_cents numeric, "
    f"by_hand_usd_cents numeric, usd_cents numeric, usd numeric, {MORE_USAGE.format('bigint')}, "
    "response_provider text, price_source text, upstream_usd_cents numeric, flags text, inlet text",
    "invoice_lines": "period text, number text, customer_id text, customer_name text, invoice_id text, "
    "created_at timestamptz, push_state text, stripe_invoice_id text, stripe_number text, line_key text, "
    "kind text, provider text, model text, month text, adjustment_id text, reason text, starts_at timestamptz, "
    f"ends_at timestamptz, stream_count bigint, {USAGE.format('numeric')}, usd_cents numeric, usd numeric, "
    f"billed_cents bigint, billed_usd numeric, {MORE_USAGE.format('numeric')}",
    "unbilled": "customer_id text, customer_name text, period text, kind text, stream_count bigint, "
    "usd_cents numeric, usd numeric",
    "drift": "reconciliation_id text, started_at timestamptz, finished_at timestamptz, finding integer, "
    "found_at timestamptz, customer_id text, customer_name text, period text, invoice_id text, number text, "
    "stripe_invoice_id text, drift_class text, finalized boolean, detail text, remedy text, "
    "repaired_at timestamptz, repair text, still_there boolean, drift_cents bigint, drift_usd numeric",
    "rates": "provider text, model text, customer_id text, rate_card_id text, effective_from timestamptz, "
    "effective_to timestamptz, kind text, service_tier text, daily_start time, daily_end time, "
    "above_input_tokens bigint, usd_per_million numeric, provenance text, created_at timestamptz, "
    "usd_per_hour numeric, weekdays text",
    "deferred_revenue": "period text, customer_id text, customer_name text, grant_id text, funding text, "
    "expires_at timestamptz, opening_cents bigint, sold_cents bigint, recognised_cents bigint, "
    "breakage_cents bigint, refunded_cents bigint, closing_cents bigint, closing_usd numeric",
    "budgets": "budget_id text, customer_id text, customer_name text, scope text, api_key_id text, tag_name text, "
    "tag_value text, window text, action text, ended_at timestamptz, is_current boolean, starts_at "
    "timestamptz, ends_at timestamptz, limit_usd_cents numeric, limit_usd numeric, spent_usd_cents "
    "numeric, spent_usd numeric, held_usd_cents numeric, held_usd numeric, headroom_usd_cents numeric, "
    "headroom_usd numeric",
    "holds": "customer_id text, customer_name text, stream_id text, mode text, state text, is_stopped boolean, "
    "made_at timestamptz, expires_at timestamptz, closed_at timestamptz, covers_output_tokens bigint, "
    "budgets text, held_usd_cents numeric, held_usd numeric, settled_usd_cents numeric, settled_usd "
    "numeric",
    "overruns": "customer_id text, customer_name text, stream_id text, entry_id text, booked_at timestamptz, "
    "reason text, held_usd_cents numeric, held_usd numeric, usd_cents numeric, usd numeric",
}


Row = dict[str, Any]


def read(database: Database, query: str, *, time_zone: str = "UTC") -> list[Row]:
    """The rows of a query, asked with a reader's privileges only."""
    options = f"-c role=metering_reader -c search_path=reporting -c timezone={time_zone}"
    with psycopg.connect(database.url, options=options, row_factory=dict_row) as connection:
        return connection.execute(query.encode()).fetchall()

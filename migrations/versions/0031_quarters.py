"""Sums by the quarter of an hour, for days of zones that are offset by half an hour."""

from alembic import op

revision = "0031_quarters"
down_revision = "0030_archives"
branch_labels = None
depends_on = None

# Sums of older code have no quarters: where a day begins within their hour, it is read from the bills.
OLDEST_CODE = "0017_compatible"

PENDING = "ALTER TABLE totals_pending ADD COLUMN quarter smallint CHECK (quarter BETWEEN 0 AND 3)"

USUAL = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)
SPARSE = (
    "cache_write_1h_input_tokens",
    "cache_read_input_audio_tokens",
    "cache_read_input_image_tokens",
    "input_image_tokens",
    "input_video_tokens",
    "output_image_tokens",
    "output_video_tokens",
    "citation_output_tokens",
    "web_searches",
    "storage_searches",
    "input_audio_seconds",
    "audio_seconds",
    "input_characters",
    "input_document_pages",
    "input_annotated_document_pages",
    "input_text_messages",
    "upstream_usd_cents",
)
# As `totals_hourly_by_model`, whose rows are a microsecond after the hour if their quarters are here.
QUARTERLY = f"""
CREATE TABLE totals_quarterly_by_model (
    quarter      timestamptz NOT NULL,
    provider     text NOT NULL,
    model        text NOT NULL,
    outcome      text NOT NULL,
    usage_source text NOT NULL,
    stream_count bigint NOT NULL,
    {", ".join(f"{name} numeric NOT NULL" for name in USUAL)},
    usd_cents    numeric NOT NULL CHECK (usd_cents NOT IN ('NaN', 'Infinity', '-Infinity')),
    {", ".join(f"{name} numeric" for name in SPARSE)},
    PRIMARY KEY (quarter, provider, model, outcome, usage_source)
) WITH (fillfactor = 80);
GRANT SELECT, INSERT, UPDATE ON totals_quarterly_by_model TO metering_service;
"""


def upgrade() -> None:
    for statements in (PENDING, QUARTERLY):
        op.execute(statements)

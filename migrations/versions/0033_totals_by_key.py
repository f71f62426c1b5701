"""Daily sums by API key and inlet."""

from alembic import op

revision = "0033_totals_by_key"
down_revision = "0032_late_charges"
branch_labels = None
depends_on = None

# Older code does not write these sums: they are read only while nothing else has rolled up since they were complete.
OLDEST_CODE = "0017_compatible"

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
DAILY = f"""
CREATE TABLE totals_daily_by_key (
    day          timestamptz NOT NULL,
    api_key_id   text NOT NULL,
    inlet        text NOT NULL,
    stream_count bigint NOT NULL,
    {", ".join(f"{name} numeric NOT NULL" for name in USUAL)},
    usd_cents    numeric NOT NULL CHECK (usd_cents NOT IN ('NaN', 'Infinity', '-Infinity')),
    {", ".join(f"{name} numeric" for name in SPARSE)},
    PRIMARY KEY (day, api_key_id, inlet)
) WITH (fillfactor = 80);
GRANT SELECT, INSERT, UPDATE ON totals_daily_by_key TO metering_service;
"""
# The sums are complete while this is the time of the last roll-up. The worker completes those of earlier releases.
KEYED = "ALTER TABLE totals_rolled_up ADD COLUMN keyed_at timestamptz"


def upgrade() -> None:
    for statements in (DAILY, KEYED):
        op.execute(statements)

"""Sums by hour for models alone and for customers alone, as there are by day.

A part of a day by model or customer, and the days of a time zone by model, are read from a few of these instead of
from every hour of every customer, model, key and outcome. What an older worker rolls up after this migration would
be missing in them, so older workers are stopped first; `metering audit` would tell.
"""

from alembic import op

revision = "2026_12_07_totals_by_hour"
down_revision = "2026_12_05_alerts"
branch_labels = None
depends_on = None

FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"

SUMS = f"""
    stream_count             bigint NOT NULL,
    input_tokens             numeric NOT NULL,
    output_tokens            numeric NOT NULL,
    cache_read_input_tokens  numeric NOT NULL,
    cache_write_input_tokens numeric NOT NULL,
    reasoning_output_tokens  numeric NOT NULL,
    input_audio_tokens       numeric NOT NULL,
    output_audio_tokens      numeric NOT NULL,
    usd_cents                numeric NOT NULL CHECK (usd_cents {FINITE})
"""

SUM_NAMES = (
    "stream_count, input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens,"
    " reasoning_output_tokens, input_audio_tokens, output_audio_tokens, usd_cents"
)
SUMMED = ", ".join(f"sum({name})" for name in SUM_NAMES.split(", "))

TABLES = f"""
CREATE TABLE totals_hourly_by_model (
    hour         timestamptz NOT NULL,
    provider     text NOT NULL,
    model        text NOT NULL,
    outcome      text NOT NULL,
    usage_source text NOT NULL,
    {SUMS},
    PRIMARY KEY (hour, provider, model, outcome, usage_source)
) WITH (fillfactor = 80);

CREATE TABLE totals_hourly_by_customer (
    customer_id  text NOT NULL,
    hour         timestamptz NOT NULL,
    {SUMS},
    PRIMARY KEY (customer_id, hour)
) WITH (fillfactor = 80);
CREATE INDEX totals_hourly_by_customer_by_hour ON totals_hourly_by_customer (hour);
"""

FILL = f"""
LOCK TABLE totals_hourly IN SHARE MODE;
INSERT INTO totals_hourly_by_model
SELECT hour, provider, model, outcome, usage_source, {SUMMED} FROM totals_hourly GROUP BY 1, 2, 3, 4, 5;
INSERT INTO totals_hourly_by_customer
SELECT customer_id, hour, {SUMMED} FROM totals_hourly GROUP BY 1, 2;
"""

PRIVILEGES = """
GRANT SELECT, INSERT, UPDATE ON totals_hourly_by_model, totals_hourly_by_customer TO metering_service;
"""


def upgrade() -> None:
    for statements in (TABLES, FILL, PRIVILEGES):
        op.execute(statements)

"""Totals are booked by appending, and rolled up by hour, day and month, some for customers or models alone."""

from alembic import op

revision = "2026_11_25_totals_by_day"
down_revision = "2026_11_24_journal_read_back"
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

COUNTERS = (
    "input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens, reasoning_output_tokens,"
    " input_audio_tokens, output_audio_tokens"
)
SUM_NAMES = f"stream_count, {COUNTERS}, usd_cents"
SUMMED = ", ".join(f"sum({name})" for name in SUM_NAMES.split(", "))

TABLES = f"""
-- What was booked and not rolled up yet. Appended to in the transaction that books, so no two bookings wait for
-- each other over a common total; emptied by whoever rolls up. A total is the rolled up sums and these together.
CREATE TABLE totals_pending (
    customer_id  text NOT NULL,
    hour         timestamptz NOT NULL,
    provider     text NOT NULL,
    model        text NOT NULL,
    api_key_id   text NOT NULL,
    outcome      text NOT NULL,
    usage_source text NOT NULL,
    {SUMS}
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);

CREATE TABLE totals_daily (
    customer_id  text NOT NULL,
    day          timestamptz NOT NULL,
    provider     text NOT NULL,
    model        text NOT NULL,
    api_key_id   text NOT NULL,
    outcome      text NOT NULL,
    usage_source text NOT NULL,
    {SUMS},
    PRIMARY KEY (customer_id, day, provider, model, api_key_id, outcome, usage_source)
) WITH (fillfactor = 80);
CREATE INDEX totals_daily_by_day ON totals_daily (day);

CREATE TABLE totals_daily_by_customer (
    customer_id  text NOT NULL,
    day          timestamptz NOT NULL,
    {SUMS},
    PRIMARY KEY (customer_id, day)
) WITH (fillfactor = 80);
CREATE INDEX totals_daily_by_customer_by_day ON totals_daily_by_customer (day);

CREATE TABLE totals_daily_by_model (
    day          timestamptz NOT NULL,
    provider     text NOT NULL,
    model        text NOT NULL,
    outcome      text NOT NULL,
    usage_source text NOT NULL,
    {SUMS},
    PRIMARY KEY (day, provider, model, outcome, usage_source)
) WITH (fillfactor = 80);

CREATE TABLE totals_monthly (
    customer_id  text NOT NULL,
    month        timestamptz NOT NULL,
    provider     text NOT NULL,
    model        text NOT NULL,
    api_key_id   text NOT NULL,
    outcome      text NOT NULL,
    usage_source text NOT NULL,
    {SUMS},
    PRIMARY KEY (customer_id, month, provider, model, api_key_id, outcome, usage_source)
) WITH (fillfactor = 80);
CREATE INDEX totals_monthly_by_month ON totals_monthly (month);

CREATE TABLE totals_monthly_by_customer (
    customer_id  text NOT NULL,
    month        timestamptz NOT NULL,
    outcome      text NOT NULL,
    usage_source text NOT NULL,
    {SUMS},
    PRIMARY KEY (customer_id, month, outcome, usage_source)
) WITH (fillfactor = 80);
CREATE INDEX totals_monthly_by_customer_by_month ON totals_monthly_by_customer (month);
"""

FILL = f"""
INSERT INTO totals_daily
SELECT customer_id, date_trunc('day', hour, 'UTC'), provider, model, api_key_id, outcome, usage_source, {SUMMED}
FROM totals_hourly GROUP BY 1, 2, 3, 4, 5, 6, 7;
INSERT INTO totals_daily_by_customer
SELECT customer_id, day, {SUMMED} FROM totals_daily GROUP BY 1, 2;
INSERT INTO totals_daily_by_model
SELECT day, provider, model, outcome, usage_source, {SUMMED} FROM totals_daily GROUP BY 1, 2, 3, 4, 5;
INSERT INTO totals_monthly
SELECT customer_id, date_trunc('month', day, 'UTC'), provider, model, api_key_id, outcome, usage_source, {SUMMED}
FROM totals_daily GROUP BY 1, 2, 3, 4, 5, 6, 7;
INSERT INTO totals_monthly_by_customer
SELECT customer_id, month, outcome, usage_source, {SUMMED} FROM totals_monthly GROUP BY 1, 2, 3, 4;
"""

PRIVILEGES = """
GRANT SELECT ON totals_pending, totals_daily, totals_daily_by_customer, totals_daily_by_model, totals_monthly,
    totals_monthly_by_customer TO metering_service, metering_reader;
GRANT INSERT, DELETE ON totals_pending TO metering_service;
GRANT INSERT, UPDATE ON totals_daily, totals_daily_by_customer, totals_daily_by_model, totals_monthly,
    totals_monthly_by_customer TO metering_service;
"""


def upgrade() -> None:
    for statements in (TABLES, FILL, PRIVILEGES):
        op.execute(statements)

"""Weekdays of rates; what a comparison with the catalogue found, what was kept, and two kinds of alerts."""

from alembic import op

revision = "0013_prices_by_weekday"
down_revision = "0012_usage"
branch_labels = None
depends_on = None

# '' is every day; otherwise days in the order of the week, such as 'mon tue'.
WEEKDAYS = """
ALTER TABLE rates
    ADD COLUMN weekdays text NOT NULL DEFAULT ''
        CHECK (weekdays ~ '^((mon|tue|wed|thu|fri|sat|sun)( (mon|tue|wed|thu|fri|sat|sun))*)?$'),
    DROP CONSTRAINT rates_pkey,
    ADD PRIMARY KEY (rate_card_id, kind, service_tier, daily_start, daily_end, weekdays, above_input_tokens);

CREATE OR REPLACE VIEW reporting.rates AS
SELECT k.provider, k.model, k.customer_id, k.rate_card_id, k.effective_from, k.effective_to, r.kind,
       nullif(r.service_tier, '') AS service_tier,
       CASE WHEN r.daily_start <> r.daily_end OR r.daily_start > '00:00' THEN r.daily_start END AS daily_start,
       CASE WHEN r.daily_start <> r.daily_end OR r.daily_start > '00:00' THEN r.daily_end END AS daily_end,
       r.above_input_tokens, r.usd_per_million, r.provenance, k.created_at,
       r.usd_per_hour, nullif(r.weekdays, '') AS weekdays
FROM (
    SELECT rate_card_id, provider, model, customer_id, effective_from, created_at,
           lead(effective_from) OVER (PARTITION BY provider, model, customer_id ORDER BY effective_from) AS effective_to
    FROM public.rate_cards
) AS k JOIN public.rates r ON r.rate_card_id = k.rate_card_id;
COMMENT ON COLUMN reporting.rates.weekdays IS
    'Only on these days of the week in UTC, such as mon tue; NULL for every day.';
"""

COMPARISONS = """
-- One row: the row is the work, claimed by one worker at a time. `batch` changes when a change is found that was not
-- there at the comparison before.
CREATE TABLE rate_comparisons (
    one_row     boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    due_at      timestamptz NOT NULL,
    compared_at timestamptz,
    source      text,
    batch       text,
    found_at    timestamptz
);
INSERT INTO rate_comparisons (due_at) VALUES ('epoch');

-- The prices that the last comparison found different and that are neither imported nor kept.
CREATE TABLE price_changes (
    change_id text PRIMARY KEY,
    provider  text NOT NULL,
    model     text NOT NULL,
    was       text NOT NULL,
    becomes   text NOT NULL,
    starts_at timestamptz NOT NULL,
    source    text NOT NULL,
    period    text NOT NULL,
    found_at  timestamptz NOT NULL
);

-- What a customer's usage of the month `period` cost, and would have cost by the new price.
CREATE TABLE price_change_costs (
    change_id            text NOT NULL REFERENCES price_changes ON DELETE CASCADE,
    customer_id          text NOT NULL REFERENCES customers,
    stream_count         bigint NOT NULL CHECK (stream_count >= 0),
    unpriced             bigint NOT NULL CHECK (unpriced >= 0),
    usd_cents            numeric NOT NULL,
    would_cost_usd_cents numeric NOT NULL,
    PRIMARY KEY (change_id, customer_id)
);

-- Cards of the catalogue that an operator decided not to import.
CREATE TABLE kept_rates (
    catalogue_card_id text PRIMARY KEY,
    provider          text NOT NULL,
    model             text NOT NULL,
    source            text NOT NULL,
    kept_by           text NOT NULL,
    kept_at           timestamptz NOT NULL
);
"""

ALERT_KINDS = """
ALTER TABLE alerts DROP CONSTRAINT alerts_kind_check, ADD CONSTRAINT alerts_kind_check CHECK (kind IN
    ('spend', 'daily_change', 'estimated_share', 'drift', 'backlog_age', 'price_change', 'inconsistent_usage'));
INSERT INTO alert_evaluations (kind, due_at) VALUES
    ('price_change', 'epoch'), ('inconsistent_usage', 'epoch');
"""

PRIVILEGES = """
GRANT SELECT ON rate_comparisons, price_changes, price_change_costs, kept_rates TO metering_service;
GRANT UPDATE (due_at, compared_at, source, batch, found_at) ON rate_comparisons TO metering_service;
GRANT INSERT, DELETE ON price_changes, price_change_costs TO metering_service;
GRANT INSERT ON kept_rates TO metering_service;
"""


def upgrade() -> None:
    for statements in (WEEKDAYS, COMPARISONS, ALERT_KINDS, PRIVILEGES):
        op.execute(statements.replace(":", r"\:"))

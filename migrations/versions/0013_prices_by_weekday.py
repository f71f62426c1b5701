"""Weekdays of rates."""

from alembic import op

revision = "0013_prices_by_weekday"
down_revision = "0011_reporting"
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
       nullif(r.weekdays, '') AS weekdays
FROM (
    SELECT rate_card_id, provider, model, customer_id, effective_from, created_at,
           lead(effective_from) OVER (PARTITION BY provider, model, customer_id ORDER BY effective_from) AS effective_to
    FROM public.rate_cards
) AS k JOIN public.rates r ON r.rate_card_id = k.rate_card_id;
COMMENT ON COLUMN reporting.rates.weekdays IS
    'Only on these days of the week in UTC, such as mon tue; NULL for every day.';
"""

def upgrade() -> None:
    op.execute(WEEKDAYS.replace(":", r"\:"))

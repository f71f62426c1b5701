"""Retries: streams that ended early, the charges that ask for the same, and totals that tell retries apart."""

from alembic import op

revision = "2026_11_29_retries"
down_revision = "2026_11_28_price_book"
branch_labels = None
depends_on = None

STREAMS = """
-- Streams that ended early, as the newest facts say. Derived from the facts, so the service may change it.
CREATE TABLE interrupted_streams (
    customer_id text NOT NULL,
    stream_id   text NOT NULL,
    request_key bigint NOT NULL,
    ended_at    timestamptz NOT NULL,
    -- False once newer facts say that it did not end early after all.
    interrupted boolean NOT NULL,
    -- When the retries of before and after a change may have started.
    retry_from  timestamptz NOT NULL,
    retry_until timestamptz NOT NULL,
    -- Retries that were booked without it still have to be looked up, once those who could not see it are through.
    settled     boolean NOT NULL DEFAULT false,
    barrier     bigint,
    PRIMARY KEY (customer_id, stream_id)
);
CREATE INDEX interrupted_streams_by_request ON interrupted_streams (request_key, ended_at) WHERE interrupted;
CREATE INDEX interrupted_streams_unsettled ON interrupted_streams (customer_id, stream_id) WHERE NOT settled;

ALTER TABLE charges ADD COLUMN request_key bigint;
CREATE INDEX charges_by_request ON charges (request_key, started_at) WHERE request_key IS NOT NULL;
"""

_WITH_RETRY = {
    "totals_hourly": "customer_id, hour, provider, model, api_key_id, outcome, usage_source, retry",
    "totals_daily": "customer_id, day, provider, model, api_key_id, outcome, usage_source, retry",
    "totals_monthly": "customer_id, month, provider, model, api_key_id, outcome, usage_source, retry",
    "totals_monthly_by_customer": "customer_id, month, outcome, usage_source, retry",
}

PRIVILEGES = """
GRANT SELECT ON interrupted_streams TO metering_service, metering_reader;
GRANT INSERT, UPDATE, DELETE ON interrupted_streams TO metering_service;
"""


def upgrade() -> None:
    op.execute(STREAMS)
    op.execute("ALTER TABLE totals_pending ADD COLUMN retry text NOT NULL DEFAULT 'false'")
    for table, key in _WITH_RETRY.items():
        op.execute(
            f"""
            ALTER TABLE {table} ADD COLUMN retry text NOT NULL DEFAULT 'false';
            ALTER TABLE {table} DROP CONSTRAINT {table}_pkey;
            ALTER TABLE {table} ADD PRIMARY KEY ({key});
            """
        )
    op.execute(PRIVILEGES)

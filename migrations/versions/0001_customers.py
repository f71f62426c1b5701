"""Customers: who pays."""

from alembic import op

revision = "0001_customers"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
-- Ingest adds unknown customers. All months up to and including `closed_through` are closed; '' is none.
CREATE TABLE customers (
    customer_id        text PRIMARY KEY CHECK (char_length(customer_id) BETWEEN 1 AND 128),
    name               text,
    stripe_customer_id text UNIQUE,
    time_zone          text NOT NULL DEFAULT 'UTC',
    created_at         timestamptz NOT NULL,
    closed_through     text NOT NULL DEFAULT ''
                       CHECK (closed_through = '' OR closed_through ~ '^[0-9]{4}-(0[1-9]|1[0-2])$')
);
CREATE INDEX customers_by_close ON customers (closed_through, customer_id);

GRANT USAGE ON SCHEMA public TO metering_service;
GRANT SELECT ON alembic_version TO metering_service;
GRANT SELECT, INSERT, UPDATE ON customers TO metering_service;
"""


def upgrade() -> None:
    op.execute(TABLES)

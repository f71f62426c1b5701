"""Heartbeats of workers."""

from alembic import op

revision = "0010_server"
down_revision = "0009_alerts"
branch_labels = None
depends_on = None

TABLES = """
-- What each worker did since it started. The rows of silent workers are merged into one.
CREATE TABLE worker_heartbeats (
    worker_id  text PRIMARY KEY,
    host       text NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    batches    bigint NOT NULL,
    streams    bigint NOT NULL,
    batch_time interval NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON worker_heartbeats TO metering_service;
"""


def upgrade() -> None:
    op.execute(TABLES)

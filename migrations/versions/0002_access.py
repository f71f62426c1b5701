"""Who may call: API keys, dashboard sessions, idempotency keys."""

from alembic import op

revision = "0002_access"
down_revision = "0001_customers"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE keys (
    key_id      text PRIMARY KEY,
    secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    role        text NOT NULL CHECK (role IN ('ingest', 'read', 'admin')),
    customer_id text CHECK (customer_id IS NULL OR role = 'read'),
    name        text NOT NULL,
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz
);

-- Only a hash of what the browser holds is stored.
CREATE TABLE dashboard_sessions (
    session_hash bytea PRIMARY KEY,
    key_id       text NOT NULL REFERENCES keys,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL CHECK (expires_at > created_at)
);
CREATE INDEX dashboard_sessions_by_expiry ON dashboard_sessions (expires_at);

CREATE TABLE idempotency_keys (
    idempotency_key text PRIMARY KEY,
    request_hash    bytea NOT NULL,
    result_id       text NOT NULL,
    created_at      timestamptz NOT NULL
);

GRANT SELECT, INSERT, UPDATE (name, revoked_at) ON keys TO metering_service;
GRANT SELECT, INSERT, DELETE ON dashboard_sessions TO metering_service;
GRANT SELECT, INSERT ON idempotency_keys TO metering_service;
"""


def upgrade() -> None:
    op.execute(TABLES)

"""Sessions of the dashboard: who is signed in, by which key, and until when."""

from alembic import op

revision = "2026_12_06_sessions"
down_revision = "2026_12_04_reporting"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        -- Only a hash of what the browser holds is stored.
        CREATE TABLE dashboard_sessions (
            session_hash bytea PRIMARY KEY,
            key_id       text NOT NULL REFERENCES keys,
            created_at   timestamptz NOT NULL,
            expires_at   timestamptz NOT NULL CHECK (expires_at > created_at)
        );
        CREATE INDEX dashboard_sessions_by_expiry ON dashboard_sessions (expires_at);
        GRANT SELECT, INSERT, DELETE ON dashboard_sessions TO metering_service;
        """
    )

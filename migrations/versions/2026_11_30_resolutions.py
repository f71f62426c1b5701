"""Resolutions: what an admin decided of a stream that no rule can settle, and why."""

from alembic import op

revision = "2026_11_30_resolutions"
down_revision = "2026_11_29_retries"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        -- It is about the facts as they were then: other fingerprints, and it no longer holds.
        CREATE TABLE resolutions (
            customer_id       text NOT NULL,
            stream_id         text NOT NULL,
            resolved_at       timestamptz NOT NULL,
            action            text NOT NULL CHECK (action IN ('bill_as_is', 'write_off')),
            reason            text NOT NULL CHECK (reason <> ''),
            resolved_by       text NOT NULL,
            start_fingerprint bigint,
            end_fingerprint   bigint,
            PRIMARY KEY (customer_id, stream_id, resolved_at)
        );
        ALTER TABLE charges ADD COLUMN resolution text;
        GRANT SELECT ON resolutions TO metering_service, metering_reader;
        GRANT INSERT ON resolutions TO metering_service;
        """
    )

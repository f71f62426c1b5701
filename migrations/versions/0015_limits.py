"""Limits of a key's own, which replace those of the deployment."""

from alembic import op

revision = "0015_limits"
down_revision = "0014_money"
branch_labels = None
depends_on = None

KEYS = """
-- NULL: the deployment's limit.
ALTER TABLE keys
    ADD COLUMN events_per_second   integer CHECK (events_per_second > 0),
    ADD COLUMN requests_per_second integer CHECK (requests_per_second > 0),
    ADD COLUMN concurrent_requests integer CHECK (concurrent_requests > 0);
GRANT UPDATE (events_per_second, requests_per_second, concurrent_requests) ON keys TO metering_service;
"""


def upgrade() -> None:
    op.execute(KEYS)

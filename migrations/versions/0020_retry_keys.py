"""Retries that are linked by a request which the interrupted stream turns out not to have had are found again."""

from alembic import op

revision = "0020_retry_keys"
down_revision = "0019_responses"
branch_labels = None
depends_on = None

# Older code leaves the new column empty, and misses these retries as before.
OLDEST_CODE = "0017_compatible"

INTERRUPTED = r"""
-- Requests that were recorded before `request_key`, and whose retries were not looked for since.
ALTER TABLE interrupted_streams ADD COLUMN IF NOT EXISTS retry_keys bigint[] NOT NULL DEFAULT '{}';
"""


def upgrade() -> None:
    op.execute(INTERRUPTED)

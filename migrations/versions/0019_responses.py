"""Streams are found by the upstream's id of their response."""

from alembic import op

revision = "0019_responses"
down_revision = "0018_failed"
branch_labels = None
depends_on = None

# Older code does not know the index.
OLDEST_CODE = "0017_compatible"

# A number instead of the text keeps the index small, whatever upstreams call their responses.
WITHOUT_LONG_LOCKS = (
    "SET lock_timeout = 0",
    "DROP INDEX CONCURRENTLY IF EXISTS streams_by_response",
    """
    CREATE INDEX CONCURRENTLY streams_by_response
    ON streams (hashtextextended(customer_id || chr(31) || (end_data ->> 'response_id'), 0))
    WHERE end_data ->> 'response_id' IS NOT NULL
    """,
    "SET lock_timeout = '1s'",
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for statement in WITHOUT_LONG_LOCKS:
            op.execute(statement)

"""The state of streams that cannot be finalized, which is part of the backlog."""

from alembic import op

revision = "0018_failed"
down_revision = "0017_compatible"
branch_labels = None
depends_on = None

# Older code meets the new state only on a stream that it could not finalize either.
OLDEST_CODE = "0017_compatible"

STATES = "('open', 'ended', 'finalized', 'orphaned', 'unpriced', 'conflicting', 'unmeasured', 'misdated', 'failed')"
BACKLOG = "('orphaned', 'unpriced', 'conflicting', 'unmeasured', 'misdated', 'failed')"

STREAMS = f"""
ALTER TABLE streams DROP CONSTRAINT streams_state_check,
    ADD CONSTRAINT streams_state_check CHECK (state IN {STATES}) NOT VALID;
"""

UNBILLED = """
DO $$
DECLARE defined text := pg_get_viewdef('reporting.unbilled');
BEGIN
    defined := replace(defined, '''misdated''::text', '''misdated''::text, ''failed''::text');
    EXECUTE 'CREATE OR REPLACE VIEW reporting.unbilled AS ' || defined;
END $$
"""

WITHOUT_LONG_LOCKS = (
    "SET lock_timeout = 0",
    "ALTER TABLE streams VALIDATE CONSTRAINT streams_state_check",
    "DROP INDEX CONCURRENTLY IF EXISTS streams_need_person",
    f"CREATE INDEX CONCURRENTLY streams_need_person ON streams (customer_id, state) WHERE state IN {BACKLOG}",
    "DROP INDEX CONCURRENTLY IF EXISTS streams_backlog",
    "SET lock_timeout = '1s'",
)


def upgrade() -> None:
    op.execute(STREAMS)
    op.execute(UNBILLED)
    with op.get_context().autocommit_block():
        for statement in WITHOUT_LONG_LOCKS:
            op.execute(statement)

"""Closed months are found by their bounds, for the figures of a month of all customers."""

from alembic import op

revision = "0022_month_bounds"
down_revision = "0021_inlets"
branch_labels = None
depends_on = None

# Older code does not know the index.
OLDEST_CODE = "0017_compatible"

WITHOUT_LONG_LOCKS = (
    "SET lock_timeout = 0",
    "DROP INDEX CONCURRENTLY IF EXISTS billing_periods_by_bounds",
    "CREATE INDEX CONCURRENTLY billing_periods_by_bounds ON billing_periods (period, ends_at, starts_at, customer_id)",
    "SET lock_timeout = '1s'",
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for statement in WITHOUT_LONG_LOCKS:
            op.execute(statement)

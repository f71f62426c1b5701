"""Indexes for the corrections of a month: its late charges, and its adjustments."""

from alembic import op

revision = "0032_late_charges"
down_revision = "0031_quarters"
branch_labels = None
depends_on = None

OLDEST_CODE = "0017_compatible"

# A late charge is of a stream whose own month was closed when it arrived. The month that bills it begins less than a day
# earlier in a customer's time zone than in UTC. An index needs a condition that is immutable, as this form is.
LATE = (
    "ended_at < timezone('UTC', make_timestamp(CAST(left(period, 4) AS integer), CAST(right(period, 2) AS integer),"
    " 1, 0, 0, 0) - interval '1 day')"
)
WITHOUT_LONG_LOCKS = (
    "SET lock_timeout = 0",
    "DROP INDEX CONCURRENTLY IF EXISTS charges_late",
    f"CREATE INDEX CONCURRENTLY charges_late ON charges (period, ended_at, customer_id, stream_id) WHERE {LATE}",
    "DROP INDEX CONCURRENTLY IF EXISTS adjustments_by_charged_end",
    "CREATE INDEX CONCURRENTLY adjustments_by_charged_end ON adjustments (charged_ended_at, customer_id, stream_id)",
    "SET lock_timeout = '1s'",
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for statement in WITHOUT_LONG_LOCKS:
            op.execute(statement)

"""Pending sums say in which quarter of an hour they are, for days of zones that are offset by half an hour."""

from alembic import op

revision = "0031_quarters"
down_revision = "0030_archives"
branch_labels = None
depends_on = None

# Sums of older code have no quarter: where a day begins within their hour, it is read from the bills.
OLDEST_CODE = "0017_compatible"

PENDING = "ALTER TABLE totals_pending ADD COLUMN quarter smallint CHECK (quarter BETWEEN 0 AND 3)"


def upgrade() -> None:
    op.execute(PENDING)

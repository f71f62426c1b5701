"""The index of streams that are not final holds only those that need a person; the others are in that of due ones."""

from alembic import op

revision = "2026_11_26_backlog_index"
down_revision = "2026_11_25_totals_by_day"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        -- Every stream that is open or ended has a due_at, so streams_due finds it. This one is written only when
        -- something is wrong, and no longer by every stream that starts and ends.
        CREATE INDEX streams_backlog ON streams (customer_id, state)
            WHERE state IN ('orphaned', 'unpriced', 'conflicting');
        DROP INDEX streams_not_final;
        """
    )

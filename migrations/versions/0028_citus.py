"""What Citus needs: keys that contain `customer_id`, and the lines of a bill by an immutable function."""

from alembic import op

revision = "0028_citus"
down_revision = "0027_budget_alerts"
branch_labels = None
depends_on = None

OLDEST_CODE = "0017_compatible"

# Ids of grants are random; that of a customer is unique by the primary key.
GRANTS = """
DROP INDEX grants_by_id;
CREATE INDEX grants_by_id ON grants (grant_id);
"""

# json_to_recordset is stable, and Citus runs only immutable functions on its nodes. PostgreSQL inlines it.
BILL_LINES = """
CREATE FUNCTION bill_lines(lines json)
RETURNS TABLE (kind text, quantity numeric, usd_per_million numeric, usd_per_hour numeric, usd_cents numeric)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT * FROM json_to_recordset(lines)
        AS b (kind text, quantity numeric, usd_per_million numeric, usd_per_hour numeric, usd_cents numeric)
$$;
COMMENT ON FUNCTION bill_lines IS 'The lines of a bill as rows.';
"""


def upgrade() -> None:
    for statements in (GRANTS, BILL_LINES):
        op.execute(statements)

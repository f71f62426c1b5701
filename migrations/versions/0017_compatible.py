"""The oldest code that may run on the schema, so that old processes go on while a newer release migrates."""

from alembic import op

revision = "0017_compatible"
down_revision = "0016_access"
branch_labels = None
depends_on = None

# The code of this revision and of later ones may run on the schema as this migration leaves it.
OLDEST_CODE = "0017_compatible"

TABLE = """
CREATE TABLE schema_compatibility (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    oldest_code text NOT NULL
);
COMMENT ON TABLE schema_compatibility IS 'The oldest code that may run on this schema, by its newest migration.';
GRANT SELECT ON schema_compatibility TO metering_service;
"""


def upgrade() -> None:
    op.execute(TABLE)

"""${message}"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None

# The oldest code, by its newest migration, that may run on the schema as this migration leaves it: the same as in the
# migration before, unless this one takes away what older code uses.
OLDEST_CODE = "0017_compatible"


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}

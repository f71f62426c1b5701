"""${message}"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None

# The oldest code, by its newest migration, that may run on the schema as this migration leaves it.
OLDEST_CODE = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}

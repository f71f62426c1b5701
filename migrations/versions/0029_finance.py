"""Who an invoice is billed to."""

from alembic import op

revision = "0029_finance"
down_revision = "0028_citus"
branch_labels = None
depends_on = None

# Older code pushes invoices without keeping who they are billed to; the next reconciliation reads it.
OLDEST_CODE = "0017_compatible"

BILL_TO = """
-- Name, address and tax ids, as the invoice at Stripe had them when it was last read; NULL before.
ALTER TABLE invoice_pushes ADD COLUMN bill_to json;
"""


def upgrade() -> None:
    op.execute(BILL_TO)

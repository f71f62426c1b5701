"""What the lines of an invoice sum, by usage kind and rate; and when Stripe expects and got the payment."""

from alembic import op

revision = "0024_invoice_rates"
down_revision = "0022_month_bounds"
branch_labels = None
depends_on = None

# Older code writes no rates: a worker adds those of the invoices that it makes.
OLDEST_CODE = "0017_compatible"

FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"

RATES = f"""
-- What a line sums of one usage kind at one rate. `uncharged` counts completions without a charge. No rate: each was
-- priced by itself. `usd_cents` is exact, and sums to that of the line.
CREATE TABLE invoice_line_rates (
    customer_id     text NOT NULL,
    invoice_id      text NOT NULL,
    line_key        text NOT NULL,
    place           integer NOT NULL CHECK (place > 0),
    kind            text NOT NULL,
    quantity        numeric NOT NULL CHECK (quantity {FINITE}),
    usd_per_million numeric CHECK (usd_per_million {FINITE}),
    usd_per_hour    numeric CHECK (usd_per_hour {FINITE}),
    usd_cents       numeric NOT NULL CHECK (usd_cents {FINITE}),
    PRIMARY KEY (customer_id, invoice_id, line_key, place),
    UNIQUE NULLS NOT DISTINCT (customer_id, invoice_id, line_key, kind, usd_per_million, usd_per_hour),
    FOREIGN KEY (customer_id, invoice_id, line_key) REFERENCES invoice_lines,
    CHECK (usd_per_million IS NULL OR usd_per_hour IS NULL)
);

-- Whether the rates of its lines are kept; not yet for invoices that older code made.
ALTER TABLE invoices ADD COLUMN rates_kept boolean NOT NULL DEFAULT false;

GRANT SELECT, INSERT ON invoice_line_rates TO metering_service;
GRANT UPDATE (rates_kept) ON invoices TO metering_service;
"""

PAYMENTS = """
-- As Stripe had them when its invoice was last read; NULL where Stripe has none, or was not read since.
ALTER TABLE invoice_pushes ADD COLUMN finalized_at timestamptz, ADD COLUMN payment_due_at timestamptz,
    ADD COLUMN paid_at timestamptz;
"""

WITHOUT_LONG_LOCKS = (
    "SET lock_timeout = 0",
    "DROP INDEX CONCURRENTLY IF EXISTS invoices_without_rates",
    "CREATE INDEX CONCURRENTLY invoices_without_rates ON invoices (customer_id, invoice_id) WHERE NOT rates_kept",
    "DROP INDEX CONCURRENTLY IF EXISTS invoice_pushes_to_be_paid",
    "CREATE INDEX CONCURRENTLY invoice_pushes_to_be_paid ON invoice_pushes (payment_due_at, customer_id, invoice_id)"
    " WHERE state = 'final'",
    "SET lock_timeout = '1s'",
)


def upgrade() -> None:
    for statements in (RATES, PAYMENTS):
        op.execute(statements)
    with op.get_context().autocommit_block():
        for statement in WITHOUT_LONG_LOCKS:
            op.execute(statement)

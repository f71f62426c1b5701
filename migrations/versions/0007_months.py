"""Closed months and their invoices; no entry can be booked to a closed month."""

from alembic import op

revision = "0007_months"
down_revision = "0006_ledger"
branch_labels = None
depends_on = None

MONTH = "~ '^[0-9]{4}-(0[1-9]|1[0-2])$'"
FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"

CLOSING = f"""
CREATE TABLE billing_periods (
    customer_id  text NOT NULL REFERENCES customers,
    period       text NOT NULL CHECK (period {MONTH}),
    time_zone    text NOT NULL,
    starts_at    timestamptz NOT NULL,
    ends_at      timestamptz NOT NULL,
    closed_at    timestamptz NOT NULL,
    closed_by    text NOT NULL,
    force_reason text,
    entry_count  bigint NOT NULL CHECK (entry_count >= 0),
    seal         bytea NOT NULL CHECK (octet_length(seal) = 32),
    PRIMARY KEY (customer_id, period),
    CHECK (starts_at < ends_at AND ends_at <= closed_at)
);

CREATE TABLE invoices (
    customer_id          text NOT NULL,
    invoice_id           text NOT NULL,
    period               text NOT NULL,
    number               text NOT NULL,
    previous_invoice_id  text,
    exact_usd_cents      numeric NOT NULL CHECK (exact_usd_cents {FINITE}),
    carried_in_usd_cents numeric NOT NULL CHECK (carried_in_usd_cents {FINITE}),
    billed_cents         bigint NOT NULL CHECK (billed_cents >= 0),
    remainder_usd_cents  numeric NOT NULL CHECK (remainder_usd_cents {FINITE}),
    minimum_cents        integer NOT NULL CHECK (minimum_cents >= 0),
    created_at           timestamptz NOT NULL,
    PRIMARY KEY (customer_id, invoice_id),
    UNIQUE (customer_id, period),
    UNIQUE (customer_id, invoice_id, remainder_usd_cents),
    -- A remainder is carried once, unchanged.
    UNIQUE NULLS NOT DISTINCT (customer_id, previous_invoice_id),
    FOREIGN KEY (customer_id, previous_invoice_id, carried_in_usd_cents)
        REFERENCES invoices (customer_id, invoice_id, remainder_usd_cents),
    FOREIGN KEY (customer_id, period) REFERENCES billing_periods,
    CHECK (previous_invoice_id IS NOT NULL OR carried_in_usd_cents = 0),
    CHECK (billed_cents + remainder_usd_cents = exact_usd_cents + carried_in_usd_cents),
    CHECK (billed_cents = 0 OR (billed_cents >= minimum_cents
                                AND remainder_usd_cents >= 0 AND remainder_usd_cents < 1))
);
CREATE INDEX invoices_by_period ON invoices (period, customer_id);
CREATE INDEX invoices_by_id ON invoices (invoice_id);
CREATE INDEX invoices_by_number ON invoices (number);

CREATE TABLE invoice_lines (
    customer_id   text NOT NULL,
    invoice_id    text NOT NULL,
    line_key      text NOT NULL,
    kind          text NOT NULL CHECK (kind IN
                    ('usage', 'late_usage', 'adjustment', 'credit', 'correction', 'carried_in')),
    provider      text,
    model         text,
    month         text,
    adjustment_id text,
    reason        text,
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz NOT NULL,
    stream_count  bigint NOT NULL,
    usage         json NOT NULL,
    usd_cents     numeric NOT NULL CHECK (usd_cents {FINITE}),
    billed_cents  bigint NOT NULL,
    PRIMARY KEY (customer_id, invoice_id, line_key),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices
);

-- Numbers have no gaps: closing takes the next ones, in the transaction that uses them.
CREATE TABLE invoice_numbers (
    period text PRIMARY KEY CHECK (period {MONTH}),
    last   integer NOT NULL CHECK (last > 0)
);
"""

RUNS = f"""
-- A request to close a month. A row without `finished_at` is work for every worker.
CREATE TABLE invoice_runs (
    run_id       text PRIMARY KEY,
    period       text NOT NULL CHECK (period {MONTH}),
    customer_id  text,
    force_reason text CHECK (force_reason <> ''),
    requested_by text NOT NULL,
    as_of        timestamptz,
    started_at   timestamptz NOT NULL,
    finished_at  timestamptz
);
CREATE INDEX invoice_runs_open ON invoice_runs (started_at) WHERE finished_at IS NULL;

-- Customers whose month a run could not close, and why.
CREATE TABLE invoice_run_refusals (
    customer_id text NOT NULL,
    run_id      text NOT NULL REFERENCES invoice_runs,
    result      text NOT NULL CHECK (result IN ('unsettled', 'failed')),
    detail      text NOT NULL,
    refused_at  timestamptz NOT NULL,
    PRIMARY KEY (customer_id, run_id)
);
CREATE INDEX invoice_run_refusals_by_run ON invoice_run_refusals (run_id, customer_id);
"""

# Checked once per statement. The application takes a lock that prevents races.
NO_ENTRY_IN_A_CLOSED_PERIOD = """
CREATE FUNCTION refuse_closed_period() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    entry record;
BEGIN
    SELECT b.customer_id, b.period INTO entry FROM (SELECT DISTINCT customer_id, period FROM booked) AS b
    WHERE EXISTS (SELECT FROM billing_periods p WHERE p.customer_id = b.customer_id AND p.period >= b.period)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the period % of customer % is closed', entry.period, entry.customer_id
            USING ERRCODE = 'check_violation', HINT = 'book to the next open period';
    END IF;
    RETURN NULL;
END $$;
"""


def upgrade() -> None:
    for statements in (CLOSING, RUNS, NO_ENTRY_IN_A_CLOSED_PERIOD):
        op.execute(statements)
    for table in ("charges", "adjustments", "manual_adjustments"):
        op.execute(
            f"CREATE TRIGGER closed_period AFTER INSERT ON {table} REFERENCING NEW TABLE AS booked"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_closed_period()"
        )
    op.execute(
        """
        GRANT SELECT ON billing_periods, invoices, invoice_lines, invoice_runs, invoice_run_refusals
            TO metering_service;
        GRANT SELECT, INSERT, UPDATE ON invoice_numbers TO metering_service;
        GRANT INSERT ON billing_periods, invoices, invoice_lines, invoice_runs, invoice_run_refusals
            TO metering_service;
        GRANT UPDATE (finished_at) ON invoice_runs TO metering_service;
        """
    )

"""Prepaid credits: grants, their entries, what they paid by month, top-ups, and the prepaid part of invoices."""

from alembic import op

revision = "0026_credits"
down_revision = "0025_budgets"
branch_labels = None
depends_on = None

# Older code books without drawing grants: the first grant is made once every part runs the new release
# (docs/credits.md).
OLDEST_CODE = "0017_compatible"

FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"
MONTH = "~ '^[0-9]{4}-(0[1-9]|1[0-2])$'"
DOLLARS = "* 0.01"  # exact, unlike a division

GRANTS = f"""
-- `amount_usd_cents` is what it pays for, `paid_usd_cents` what the customer paid for it. The columns from `state` on
-- follow from its entries and are kept beside them, so that drawing reads no entries.
CREATE TABLE grants (
    customer_id       text NOT NULL REFERENCES customers,
    grant_id          text NOT NULL,
    amount_usd_cents  numeric NOT NULL CHECK (amount_usd_cents > 0 AND amount_usd_cents {FINITE}),
    paid_usd_cents    numeric NOT NULL CHECK (paid_usd_cents >= 0 AND paid_usd_cents {FINITE}
                                              AND paid_usd_cents = trunc(paid_usd_cents)),
    priority          integer NOT NULL CHECK (priority BETWEEN 0 AND 1000),
    effective_from    timestamptz NOT NULL,
    expires_at        timestamptz,
    only_providers    text[],
    only_models       text[],
    funding           text NOT NULL CHECK (funding IN ('invoice', 'external', 'none')),
    reason            text NOT NULL CHECK (reason <> ''),
    created_at        timestamptz NOT NULL,
    created_by        text NOT NULL,
    state             text NOT NULL CHECK (state IN ('pending', 'active', 'voided')),
    balance_usd_cents numeric NOT NULL CHECK (balance_usd_cents BETWEEN 0 AND amount_usd_cents),
    entry_count       integer NOT NULL CHECK (entry_count >= 0),
    changed_at        timestamptz NOT NULL CHECK (changed_at >= created_at),
    sold_period       text CHECK (sold_period {MONTH}),
    drawn_usd_cents   numeric NOT NULL DEFAULT 0 CHECK (drawn_usd_cents BETWEEN 0 AND amount_usd_cents),
    recognised_cents  bigint NOT NULL DEFAULT 0 CHECK (recognised_cents >= 0),
    released_cents    bigint NOT NULL DEFAULT 0 CHECK (released_cents BETWEEN recognised_cents AND paid_usd_cents),
    PRIMARY KEY (customer_id, grant_id),
    CHECK (expires_at > effective_from),
    CHECK ((funding = 'none') = (paid_usd_cents = 0)),
    CHECK (cardinality(only_providers) > 0),
    CHECK (cardinality(only_models) > 0),
    CHECK (state = 'active' OR balance_usd_cents = 0),
    CHECK (state <> 'active' OR sold_period IS NOT NULL)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX grants_by_id ON grants (grant_id);
CREATE INDEX grants_of_customer ON grants (customer_id, created_at, grant_id);
CREATE INDEX grants_by_time ON grants (created_at, grant_id);
CREATE INDEX grants_with_balance ON grants (customer_id) WHERE balance_usd_cents > 0;
CREATE INDEX grants_to_expire ON grants (expires_at) WHERE balance_usd_cents > 0;
CREATE INDEX grants_sold ON grants (customer_id, grant_id) WHERE paid_usd_cents > 0 AND sold_period IS NOT NULL;

-- Append only. `entry_order` is the order of booking of a customer's entries of all grants. `released_cents` is what an
-- entry takes from the deferred part of the price. A draw names the entry of the ledger that it pays for, and the month
-- whose invoice has that.
CREATE TABLE grant_entries (
    customer_id       text NOT NULL,
    grant_id          text NOT NULL,
    entry_number      integer NOT NULL CHECK (entry_number > 0),
    entry_order       bigint GENERATED ALWAYS AS IDENTITY,
    kind              text NOT NULL CHECK (kind IN ('granted', 'drawn', 'restored', 'expired', 'voided', 'refunded')),
    usd_cents         numeric NOT NULL CHECK (usd_cents {FINITE}),
    balance_usd_cents numeric NOT NULL CHECK (balance_usd_cents >= 0 AND balance_usd_cents {FINITE}),
    released_cents    bigint NOT NULL,
    booked_at         timestamptz NOT NULL,
    period            text NOT NULL CHECK (period {MONTH}),
    entry_id          text,
    stream_id         text,
    entry_period      text CHECK (entry_period {MONTH}),
    reason            text,
    booked_by         text,
    PRIMARY KEY (customer_id, grant_id, entry_number),
    FOREIGN KEY (customer_id, grant_id) REFERENCES grants,
    CHECK (CASE kind WHEN 'granted' THEN usd_cents > 0 WHEN 'restored' THEN usd_cents > 0
           WHEN 'voided' THEN usd_cents <= 0 ELSE usd_cents < 0 END),
    CHECK ((kind = 'granted') = (entry_number = 1)),
    CHECK ((kind IN ('drawn', 'restored')) = (entry_id IS NOT NULL)),
    CHECK ((entry_id IS NULL) = (entry_period IS NULL)),
    CHECK (stream_id IS NULL OR entry_id IS NOT NULL),
    CHECK (kind <> 'restored' OR stream_id IS NOT NULL),
    CHECK (kind <> 'granted' OR released_cents = 0)
);
CREATE INDEX grant_entries_by_invoice ON grant_entries (customer_id, entry_period) WHERE entry_period IS NOT NULL;
CREATE INDEX grant_entries_by_stream ON grant_entries (customer_id, stream_id) WHERE stream_id IS NOT NULL;

-- The sums of a grant's entries by month: in exact cents, and of its price in whole cents.
CREATE TABLE grant_months (
    customer_id       text NOT NULL,
    grant_id          text NOT NULL,
    period            text NOT NULL CHECK (period {MONTH}),
    granted_usd_cents numeric NOT NULL DEFAULT 0 CHECK (granted_usd_cents {FINITE}),
    drawn_usd_cents   numeric NOT NULL DEFAULT 0 CHECK (drawn_usd_cents {FINITE}),
    ended_usd_cents   numeric NOT NULL DEFAULT 0 CHECK (ended_usd_cents {FINITE}),
    sold_cents        bigint NOT NULL DEFAULT 0,
    recognised_cents  bigint NOT NULL DEFAULT 0,
    breakage_cents    bigint NOT NULL DEFAULT 0,
    refunded_cents    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (customer_id, grant_id, period),
    FOREIGN KEY (customer_id, grant_id) REFERENCES grants
) WITH (fillfactor = 70);
CREATE INDEX grant_months_by_period ON grant_months (period);

-- What all grants of a customer paid of a month's invoice.
CREATE TABLE prepaid_months (
    customer_id     text NOT NULL,
    period          text NOT NULL CHECK (period {MONTH}),
    drawn_usd_cents numeric NOT NULL CHECK (drawn_usd_cents {FINITE}),
    PRIMARY KEY (customer_id, period)
) WITH (fillfactor = 70);
"""

TOP_UPS = f"""
-- Grants that are bought when the balance is low.
CREATE TABLE top_ups (
    customer_id          text PRIMARY KEY REFERENCES customers,
    when_below_usd_cents numeric NOT NULL CHECK (when_below_usd_cents > 0 AND when_below_usd_cents {FINITE}),
    buy_usd_cents        numeric NOT NULL CHECK (buy_usd_cents >= 50 AND buy_usd_cents {FINITE}
                                                 AND buy_usd_cents = trunc(buy_usd_cents)),
    at_most_a_day        integer NOT NULL CHECK (at_most_a_day BETWEEN 0 AND 100),
    set_at               timestamptz NOT NULL,
    set_by               text NOT NULL
);

-- The Stripe invoice of a grant that is paid by one. A row with `due_at` is work; a lease with a fence keeps it to one
-- worker.
CREATE TABLE grant_invoices (
    customer_id        text NOT NULL,
    grant_id           text NOT NULL,
    state              text NOT NULL CHECK (state IN ('pending', 'unlinked', 'open', 'paid', 'void', 'uncollectible',
                                                      'stuck')),
    is_top_up          boolean NOT NULL,
    stripe_customer_id text,
    stripe_invoice_id  text,
    stripe_url         text,
    attempts           integer NOT NULL DEFAULT 0,
    problem            text,
    due_at             timestamptz,
    lease_until        timestamptz,
    fence              bigint NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL,
    changed_at         timestamptz NOT NULL,
    PRIMARY KEY (customer_id, grant_id),
    FOREIGN KEY (customer_id, grant_id) REFERENCES grants
);
CREATE INDEX grant_invoices_due ON grant_invoices (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX grant_invoices_by_stripe_id ON grant_invoices (stripe_invoice_id) WHERE stripe_invoice_id IS NOT NULL;
CREATE INDEX grant_invoices_of_top_ups ON grant_invoices (customer_id, created_at) WHERE is_top_up;

-- Every write to Stripe for a grant, recorded before it is sent.
CREATE TABLE grant_operations (
    customer_id      text NOT NULL,
    grant_id         text NOT NULL,
    operation        text NOT NULL,
    generation       integer NOT NULL,
    parameters       json NOT NULL,
    sent_at          timestamptz NOT NULL,
    outcome          text CHECK (outcome IN ('done', 'refused', 'replayed_error', 'gone', 'expired')),
    stripe_object_id text,
    problem          text,
    answered_at      timestamptz,
    PRIMARY KEY (customer_id, grant_id, operation, generation),
    FOREIGN KEY (customer_id, grant_id) REFERENCES grant_invoices
);
"""

# What grants paid is taken from an invoice's exact sum before its one rounding. Older code makes invoices without it.
INVOICES = f"""
ALTER TABLE invoices ADD COLUMN prepaid_usd_cents numeric NOT NULL DEFAULT 0;
ALTER TABLE invoices ADD CONSTRAINT invoices_prepaid_is_finite CHECK (prepaid_usd_cents {FINITE}) NOT VALID;
ALTER TABLE invoices DROP CONSTRAINT invoices_check1;
ALTER TABLE invoices ADD CONSTRAINT invoices_check1 CHECK (
    billed_cents + remainder_usd_cents = exact_usd_cents + carried_in_usd_cents - prepaid_usd_cents) NOT VALID;
ALTER TABLE invoice_lines DROP CONSTRAINT invoice_lines_kind_check;
ALTER TABLE invoice_lines ADD CONSTRAINT invoice_lines_kind_check CHECK (kind IN
    ('usage', 'late_usage', 'adjustment', 'credit', 'correction', 'prepaid', 'carried_in')) NOT VALID;
"""

# A grant that expired without an entry, because nothing has looked at it since, is breakage from its expiry on.
DEFERRED = f"""
CREATE VIEW reporting.deferred_revenue AS
WITH moves AS (
    SELECT customer_id, grant_id, period, sold_cents, recognised_cents, breakage_cents, refunded_cents
    FROM public.grant_months
    UNION ALL
    SELECT g.customer_id, g.grant_id,
           greatest(g.sold_period, to_char(g.expires_at AT TIME ZONE
                                           coalesce(public.known_time_zone(c.time_zone), 'UTC'), 'YYYY-MM')),
           0, 0, g.paid_usd_cents - g.released_cents, 0
    FROM public.grants g JOIN public.customers c ON c.customer_id = g.customer_id
    WHERE g.balance_usd_cents > 0 AND g.expires_at <= now() AND g.paid_usd_cents > 0
), moved AS (
    SELECT customer_id, grant_id, period, sum(sold_cents) AS sold, sum(recognised_cents) AS recognised,
           sum(breakage_cents) AS breakage, sum(refunded_cents) AS refunded
    FROM moves GROUP BY 1, 2, 3
), spans AS (
    SELECT customer_id, grant_id, min(period) AS first,
           CASE WHEN sum(sold - recognised - breakage - refunded) = 0 THEN max(period)
                ELSE greatest(max(period), to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')) END AS last
    FROM moved GROUP BY 1, 2
), months AS (
    SELECT s.customer_id, s.grant_id, to_char(month, 'YYYY-MM') AS period
    FROM spans s CROSS JOIN LATERAL generate_series(
        to_date(s.first, 'YYYY-MM')::timestamp, to_date(s.last, 'YYYY-MM')::timestamp, interval '1 month') AS month
), totals AS (
    SELECT n.customer_id, n.grant_id, n.period, coalesce(m.sold, 0) AS sold, coalesce(m.recognised, 0) AS recognised,
           coalesce(m.breakage, 0) AS breakage, coalesce(m.refunded, 0) AS refunded,
           sum(coalesce(m.sold - m.recognised - m.breakage - m.refunded, 0))
               OVER (PARTITION BY n.customer_id, n.grant_id ORDER BY n.period) AS closing
    FROM months n LEFT JOIN moved m
        ON m.customer_id = n.customer_id AND m.grant_id = n.grant_id AND m.period = n.period
)
SELECT t.period, t.customer_id, c.name AS customer_name, t.grant_id, g.funding, g.expires_at,
       CAST(t.closing - t.sold + t.recognised + t.breakage + t.refunded AS bigint) AS opening_cents,
       CAST(t.sold AS bigint) AS sold_cents, CAST(t.recognised AS bigint) AS recognised_cents,
       CAST(t.breakage AS bigint) AS breakage_cents, CAST(t.refunded AS bigint) AS refunded_cents,
       CAST(t.closing AS bigint) AS closing_cents, t.closing {DOLLARS} AS closing_usd
FROM totals t
JOIN public.grants g ON g.customer_id = t.customer_id AND g.grant_id = t.grant_id AND g.paid_usd_cents > 0
LEFT JOIN public.customers c ON c.customer_id = t.customer_id
"""

MEANING = (
    "The deferred part of what customers paid for prepaid grants: per grant and month,"
    " opening + sold - recognised - breakage - refunded = closing. Promotional grants have none."
)
COLUMNS = {
    "period": "The month in the time zone of the customer.",
    "customer_id": "Who paid.",
    "customer_name": "The name of the customer, if it has one.",
    "grant_id": "The grant.",
    "funding": "How it was paid: by an invoice of the service, or external.",
    "expires_at": "When what is left of it expires; NULL: never.",
    "opening_cents": "What was deferred at the start of the month, in whole cents.",
    "sold_cents": "The price, in the month in which the grant became active.",
    "recognised_cents": "The part of the price of what was drawn; below zero where more was restored.",
    "breakage_cents": "The part of the price of what expired.",
    "refunded_cents": "The part of the price of what was refunded or voided.",
    "closing_cents": "What is deferred at the end of the month.",
    "closing_usd": "The same in dollars, exact.",
}

PRIVILEGES = """
GRANT SELECT, INSERT ON grants, grant_entries, grant_months, prepaid_months, top_ups, grant_invoices, grant_operations
    TO metering_service;
GRANT UPDATE (state, balance_usd_cents, entry_count, changed_at, sold_period, drawn_usd_cents, recognised_cents,
              released_cents) ON grants TO metering_service;
GRANT UPDATE (granted_usd_cents, drawn_usd_cents, ended_usd_cents, sold_cents, recognised_cents, breakage_cents,
              refunded_cents) ON grant_months TO metering_service;
GRANT UPDATE (drawn_usd_cents) ON prepaid_months TO metering_service;
GRANT UPDATE (when_below_usd_cents, buy_usd_cents, at_most_a_day, set_at, set_by) ON top_ups TO metering_service;
GRANT DELETE ON top_ups TO metering_service;
GRANT UPDATE (state, stripe_customer_id, stripe_invoice_id, stripe_url, attempts, problem, due_at, lease_until, fence,
              changed_at) ON grant_invoices TO metering_service;
GRANT UPDATE (outcome, stripe_object_id, problem, answered_at) ON grant_operations TO metering_service;
GRANT SELECT ON reporting.deferred_revenue TO metering_reader;
"""


def upgrade() -> None:
    for statements in (GRANTS, TOP_UPS, INVOICES, DEFERRED):
        op.execute(statements.replace(":", r"\:"))
    op.execute(f"COMMENT ON VIEW reporting.deferred_revenue IS '{MEANING}'".replace(":", r"\:"))
    for name, says in COLUMNS.items():
        op.execute(f"COMMENT ON COLUMN reporting.deferred_revenue.{name} IS '{says}'".replace(":", r"\:"))
    op.execute(PRIVILEGES)

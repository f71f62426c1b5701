"""Pushes of invoices to Stripe, every write sent there, reconciliations, and the events that Stripe posts."""

from alembic import op

revision = "0008_stripe"
down_revision = "0007_months"
branch_labels = None
depends_on = None

PUSHES = """
-- One row per invoice: its state at Stripe. A row with `due_at` is work; a lease with a fence keeps it to one worker.
CREATE TABLE invoice_pushes (
    customer_id          text NOT NULL,
    invoice_id           text NOT NULL,
    period               text NOT NULL,
    state                text NOT NULL CHECK (state IN
                           ('pending', 'lookup', 'creating', 'lining', 'verifying', 'finalizing', 'unknown',
                            'final', 'paid', 'void', 'uncollectible', 'deferred', 'unlinked', 'stuck')),
    version              integer NOT NULL DEFAULT 1 CHECK (version > 0),
    stripe_invoice_id    text,
    stripe_number        text,
    stripe_url           text,
    attempts             integer NOT NULL DEFAULT 0,
    failures             integer NOT NULL DEFAULT 0,
    problem              text,
    due_at               timestamptz,
    lease_until          timestamptz,
    fence                bigint NOT NULL DEFAULT 0,
    changed_at           timestamptz NOT NULL,
    PRIMARY KEY (customer_id, invoice_id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices
);
CREATE INDEX invoice_pushes_due ON invoice_pushes (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX invoice_pushes_by_period ON invoice_pushes (period, state);
-- Invoices that are not in a final state, of all months; there are few.
CREATE INDEX invoice_pushes_not_at_end ON invoice_pushes (period, state)
    WHERE state NOT IN ('final', 'paid', 'void', 'uncollectible', 'deferred');
CREATE INDEX invoice_pushes_by_stripe_id ON invoice_pushes (stripe_invoice_id) WHERE stripe_invoice_id IS NOT NULL;

-- Every write to Stripe, recorded before it is sent. Its idempotency key is derived from its primary key.
CREATE TABLE stripe_operations (
    customer_id      text NOT NULL,
    invoice_id       text NOT NULL,
    version          integer NOT NULL,
    operation        text NOT NULL,
    generation       integer NOT NULL,
    parameters       json NOT NULL,
    sent_at          timestamptz NOT NULL,
    outcome          text CHECK (outcome IN ('done', 'refused', 'replayed_error', 'gone', 'expired')),
    stripe_object_id text,
    stripe_request_id text,
    problem          text,
    answered_at      timestamptz,
    PRIMARY KEY (customer_id, invoice_id, version, operation, generation),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoice_pushes
);
"""

DRIFT = """
CREATE TABLE reconciliations (
    reconciliation_id text PRIMARY KEY,
    period            text,
    repair            boolean NOT NULL,
    requested_by      text NOT NULL,
    started_at        timestamptz NOT NULL,
    finished_at       timestamptz,
    compared          integer,
    ours_cents        bigint,
    theirs_cents      bigint,
    problem           text
);

CREATE TABLE drift_findings (
    reconciliation_id text NOT NULL REFERENCES reconciliations,
    finding           integer NOT NULL,
    customer_id       text,
    invoice_id        text,
    period            text,
    stripe_invoice_id text,
    drift_class       text NOT NULL,
    finalized         boolean NOT NULL,
    drift_cents       bigint NOT NULL,
    detail            text NOT NULL,
    remedy            text NOT NULL,
    found_at          timestamptz NOT NULL,
    repaired_at       timestamptz,
    repair            text,
    PRIMARY KEY (reconciliation_id, finding)
);

-- Stripe's invoices as a reconciliation fetched them, kept so that comparing takes little memory.
CREATE TABLE stripe_snapshots (
    reconciliation_id text NOT NULL REFERENCES reconciliations,
    stripe_invoice_id text NOT NULL,
    invoice_id        text NOT NULL,
    snapshot          json NOT NULL,
    PRIMARY KEY (reconciliation_id, stripe_invoice_id)
);
CREATE INDEX stripe_snapshots_by_invoice ON stripe_snapshots (reconciliation_id, invoice_id);

-- Each Stripe event, once: a hint to read the invoice at Stripe, never state by itself.
CREATE TABLE stripe_events (
    stripe_event_id text PRIMARY KEY,
    type            text NOT NULL,
    stripe_object_id text,
    created_at      timestamptz NOT NULL,
    received_at     timestamptz NOT NULL
);
"""


def upgrade() -> None:
    op.execute(PUSHES)
    op.execute(DRIFT)
    op.execute(
        """
        GRANT SELECT ON invoice_pushes, stripe_operations, reconciliations, drift_findings, stripe_snapshots,
            stripe_events TO metering_service;
        GRANT INSERT ON invoice_pushes, stripe_operations, reconciliations, drift_findings, stripe_snapshots,
            stripe_events TO metering_service;
        GRANT UPDATE ON invoice_pushes TO metering_service;
        GRANT UPDATE (outcome, stripe_object_id, stripe_request_id, problem, answered_at, sent_at)
            ON stripe_operations TO metering_service;
        GRANT UPDATE (finished_at, compared, ours_cents, theirs_cents, problem) ON reconciliations
            TO metering_service;
        GRANT UPDATE (repaired_at, repair) ON drift_findings TO metering_service;
        GRANT DELETE ON stripe_snapshots TO metering_service;
        """
    )

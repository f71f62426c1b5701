"""Alerts about budgets and prepaid balances; what the webhooks about exhausted budgets and refused holds are made of."""

from alembic import op

revision = "0027_budget_alerts"
down_revision = "0026_credits"
branch_labels = None
depends_on = None

# Older code cannot list alerts of the new kinds: the first one is created once every part runs the new release
# (docs/alerts.md).
OLDEST_CODE = "0017_compatible"

FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"

# A window without an end is never over, so that its occurrences may not go: the threshold would fire again.
ALERTS = """
ALTER TABLE alerts DROP CONSTRAINT alerts_kind_check, ADD CONSTRAINT alerts_kind_check CHECK (kind IN
    ('spend', 'daily_change', 'estimated_share', 'drift', 'backlog_age', 'price_change', 'inconsistent_usage',
     'budget', 'balance_below'));
ALTER TABLE alerts ADD CONSTRAINT alerts_of_balances CHECK (kind <> 'balance_below' OR scope <> 'deployment');
INSERT INTO alert_evaluations (kind, due_at) VALUES
    ('budget', 'epoch'), ('balance_below', 'epoch'), ('budget.exhausted', 'epoch'), ('hold.refused', 'epoch');
ALTER TABLE alert_occurrences ADD COLUMN window_has_end boolean NOT NULL DEFAULT true;
"""

NOTICES = f"""
-- Budgets of which all is spent, once for each window and limit. '' stands for the deployment.
CREATE TABLE exhausted_budgets (
    customer_id  text NOT NULL,
    alert_window text NOT NULL,
    resets_at    timestamptz,
    exhausted_at timestamptz NOT NULL,
    PRIMARY KEY (customer_id, alert_window)
);
CREATE INDEX exhausted_budgets_by_end ON exhausted_budgets (resets_at) WHERE resets_at IS NOT NULL;

-- What a budget refused in a minute: how many holds, and the first of them with the budget's figures at that moment. The
-- row is the work: a worker removes it in the transaction that adds its message. `customer_id` is the budget's,
-- `refused_customer_id` the stream's.
CREATE TABLE hold_refusals (
    customer_id         text NOT NULL,
    budget_id           text NOT NULL,
    minute              timestamptz NOT NULL,
    refusal_count       bigint NOT NULL CHECK (refusal_count > 0),
    refused_customer_id text NOT NULL,
    stream_id           text NOT NULL,
    provider            text NOT NULL,
    model               text NOT NULL,
    needed_usd_cents    numeric NOT NULL CHECK (needed_usd_cents {FINITE}),
    standing            json NOT NULL,
    PRIMARY KEY (customer_id, budget_id, minute)
) WITH (fillfactor = 50);
CREATE INDEX hold_refusals_by_minute ON hold_refusals (minute);
"""

# Of the windows of all budgets, those that are not over are few.
WINDOWS = "CREATE INDEX budget_windows_by_end ON budget_windows (ends_at)"

PRIVILEGES = """
GRANT SELECT, INSERT, DELETE ON exhausted_budgets, hold_refusals TO metering_service;
GRANT UPDATE (refusal_count) ON hold_refusals TO metering_service;
"""


def upgrade() -> None:
    for statements in (ALERTS, NOTICES, WINDOWS, PRIVILEGES):
        op.execute(statements)

"""Alerts, their occurrences, and the webhooks that announce them."""

from alembic import op

revision = "0009_alerts"
down_revision = "0008_stripe"
branch_labels = None
depends_on = None

FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"

ALERTS = f"""
-- A change of the terms makes a new version, which can fire again.
CREATE TABLE alerts (
    alert_id         text PRIMARY KEY,
    kind             text NOT NULL CHECK (kind IN
                       ('spend', 'daily_change', 'estimated_share', 'drift', 'backlog_age')),
    scope            text NOT NULL CHECK (scope IN ('customer', 'each_customer', 'deployment')),
    customer_id      text REFERENCES customers,
    name             text NOT NULL CHECK (char_length(name) <= 256),
    version          integer NOT NULL CHECK (version > 0),
    thresholds       numeric[] NOT NULL CHECK (cardinality(thresholds) BETWEEN 1 AND 10),
    budget_usd_cents numeric CHECK (budget_usd_cents > 0 AND budget_usd_cents {FINITE}),
    floor_usd_cents  numeric CHECK (floor_usd_cents >= 0 AND floor_usd_cents {FINITE}),
    trailing_days    integer CHECK (trailing_days BETWEEN 1 AND 31),
    enabled          boolean NOT NULL,
    created_by       text NOT NULL,
    created_at       timestamptz NOT NULL,
    changed_at       timestamptz NOT NULL,
    deleted_at       timestamptz,
    CHECK ((scope = 'customer') = (customer_id IS NOT NULL)),
    CHECK ((kind = 'spend') = (budget_usd_cents IS NOT NULL)),
    CHECK ((kind IN ('daily_change', 'estimated_share')) = (floor_usd_cents IS NOT NULL)),
    CHECK ((kind = 'daily_change') = (trailing_days IS NOT NULL))
);
CREATE INDEX alerts_by_customer ON alerts (customer_id, kind) WHERE deleted_at IS NULL;

-- One row per kind of alert: the row is the work, claimed by one worker at a time.
CREATE TABLE alert_evaluations (
    kind         text PRIMARY KEY,
    due_at       timestamptz NOT NULL,
    evaluated_at timestamptz
);
INSERT INTO alert_evaluations (kind, due_at)
SELECT kind, 'epoch' FROM unnest(ARRAY['spend', 'daily_change', 'estimated_share', 'drift', 'backlog_age']) AS kind;

-- A crossed threshold. The key keeps it from firing twice; '' stands for the deployment.
CREATE TABLE alert_occurrences (
    customer_id   text NOT NULL,
    alert_id      text NOT NULL REFERENCES alerts,
    version       integer NOT NULL,
    alert_window  text NOT NULL,
    threshold     numeric NOT NULL CHECK (threshold {FINITE}),
    occurrence_id text NOT NULL UNIQUE,
    message_id    text NOT NULL,
    kind          text NOT NULL,
    occurred_at   timestamptz NOT NULL,
    data          json NOT NULL,
    PRIMARY KEY (customer_id, alert_id, version, alert_window, threshold)
);
CREATE INDEX alert_occurrences_by_time ON alert_occurrences (occurred_at, occurrence_id);
CREATE INDEX alert_occurrences_by_alert ON alert_occurrences (alert_id, occurred_at);
"""

WEBHOOKS = """
CREATE TABLE webhook_endpoints (
    endpoint_id     text PRIMARY KEY,
    url             text NOT NULL CHECK (char_length(url) <= 2048),
    description     text NOT NULL CHECK (char_length(description) <= 256),
    types           text[] CHECK (cardinality(types) > 0),
    created_by      text NOT NULL,
    created_at      timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    disabled_at     timestamptz,
    disabled_reason text,
    failing_since   timestamptz,
    last_problem    text,
    delivered_at    timestamptz,
    deleted_at      timestamptz,
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);

-- Kept apart from the endpoints, so that only the service may read them. The newest has no end.
CREATE TABLE webhook_secrets (
    endpoint_id text NOT NULL REFERENCES webhook_endpoints,
    generation  integer NOT NULL,
    secret      text NOT NULL,
    created_at  timestamptz NOT NULL,
    ends_at     timestamptz,
    PRIMARY KEY (endpoint_id, generation)
);

-- A message to one endpoint. A row with `due_at` is work; a lease with a fence keeps it to one worker. A replay is a row
-- of its own, with the same message.
CREATE TABLE webhook_deliveries (
    endpoint_id     text NOT NULL REFERENCES webhook_endpoints,
    message_id      text NOT NULL,
    replay          integer NOT NULL CHECK (replay >= 0),
    delivery_id     text NOT NULL UNIQUE,
    customer_id     text NOT NULL,
    type            text NOT NULL,
    body            text NOT NULL CHECK (octet_length(body) <= 20000),
    state           text NOT NULL CHECK (state IN ('pending', 'delivered', 'failed', 'skipped')),
    attempts        integer NOT NULL CHECK (attempts >= 0),
    due_at          timestamptz,
    lease_until     timestamptz,
    fence           bigint NOT NULL,
    response_status integer,
    problem         text,
    created_at      timestamptz NOT NULL,
    attempted_at    timestamptz,
    PRIMARY KEY (endpoint_id, message_id, replay),
    CHECK ((state = 'pending') = (due_at IS NOT NULL))
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_deliveries_by_time ON webhook_deliveries (created_at, delivery_id);
CREATE INDEX webhook_deliveries_by_state ON webhook_deliveries (state, created_at, delivery_id);
"""

# Readers get no access: a URL may carry a token of its receiver.
PRIVILEGES = """
GRANT SELECT ON alerts, alert_evaluations, alert_occurrences, webhook_endpoints, webhook_secrets, webhook_deliveries
    TO metering_service;
GRANT INSERT ON alerts, alert_occurrences, webhook_endpoints, webhook_secrets, webhook_deliveries
    TO metering_service;
GRANT UPDATE (name, version, thresholds, budget_usd_cents, floor_usd_cents, trailing_days, enabled, changed_at,
    deleted_at) ON alerts TO metering_service;
GRANT UPDATE (due_at, evaluated_at) ON alert_evaluations TO metering_service;
GRANT UPDATE (url, description, types, changed_at, disabled_at, disabled_reason, failing_since, last_problem,
    delivered_at, deleted_at) ON webhook_endpoints TO metering_service;
GRANT UPDATE (ends_at) ON webhook_secrets TO metering_service;
GRANT UPDATE (state, attempts, due_at, lease_until, fence, response_status, problem, attempted_at)
    ON webhook_deliveries TO metering_service;
-- For rows past their retention, and for ended secrets.
GRANT DELETE ON alert_occurrences, webhook_deliveries, webhook_secrets TO metering_service;
"""


def upgrade() -> None:
    for statements in (ALERTS, WEBHOOKS, PRIVILEGES):
        op.execute(statements)

"""Budgets and holds: limits, what is spent and held, money set aside for open streams, and overruns."""

from alembic import op

revision = "0025_budgets"
down_revision = "0024_invoice_rates"
branch_labels = None
depends_on = None

# Older code books without moving budgets: the first budget is made once every part runs the new release (docs/budgets.md).
OLDEST_CODE = "0017_compatible"

FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"

BUDGETS = f"""
-- A budget for the whole deployment has the customer ''. `held_usd_cents` is the sum of its open holds. A budget is
-- enforced from `opened_at` on, when what was spent before it was made has been summed.
CREATE TABLE budgets (
    customer_id             text NOT NULL,
    budget_id               text NOT NULL,
    scope                   text NOT NULL CHECK (scope IN ('customer', 'api_key', 'tag', 'deployment')),
    api_key_id              text,
    tag_name                text,
    tag_value               text,
    budget_window           text NOT NULL CHECK (budget_window IN ('day', 'month', 'total', 'prepaid')),
    limit_usd_cents         numeric CHECK (limit_usd_cents >= 0 AND limit_usd_cents {FINITE}),
    action                  text NOT NULL CHECK (action IN ('refuse', 'warn')),
    unknown_price_usd_cents numeric CHECK (unknown_price_usd_cents >= 0 AND unknown_price_usd_cents {FINITE}),
    version                 integer NOT NULL,
    held_usd_cents          numeric NOT NULL DEFAULT 0 CHECK (held_usd_cents >= 0 AND held_usd_cents {FINITE}),
    created_at              timestamptz NOT NULL,
    counted_from            timestamptz NOT NULL,
    opened_at               timestamptz,
    ended_at                timestamptz,
    PRIMARY KEY (customer_id, budget_id),
    CHECK ((scope = 'deployment') = (customer_id = '')),
    CHECK ((scope = 'api_key') = (api_key_id IS NOT NULL)),
    CHECK ((scope = 'tag') = (tag_name IS NOT NULL AND tag_value IS NOT NULL)),
    CHECK ((budget_window = 'prepaid') = (limit_usd_cents IS NULL)),
    CHECK (budget_window <> 'prepaid' OR scope = 'customer')
) WITH (fillfactor = 50);
CREATE INDEX budgets_by_id ON budgets (budget_id);

CREATE TABLE budget_versions (
    customer_id             text NOT NULL,
    budget_id               text NOT NULL,
    version                 integer NOT NULL,
    limit_usd_cents         numeric,
    action                  text NOT NULL,
    unknown_price_usd_cents numeric,
    is_ended                boolean NOT NULL,
    changed_at              timestamptz NOT NULL,
    changed_by              text NOT NULL,
    PRIMARY KEY (customer_id, budget_id, version)
);

-- `opening_usd_cents` was spent in the window before the budget was made; the rest of `spent_usd_cents` is the sum of
-- `budget_postings`.
CREATE TABLE budget_windows (
    customer_id       text NOT NULL,
    budget_id         text NOT NULL,
    starts_at         timestamptz NOT NULL,
    ends_at           timestamptz NOT NULL CHECK (ends_at > starts_at),
    opening_usd_cents numeric NOT NULL DEFAULT 0 CHECK (opening_usd_cents {FINITE}),
    spent_usd_cents   numeric NOT NULL DEFAULT 0 CHECK (spent_usd_cents {FINITE}),
    PRIMARY KEY (customer_id, budget_id, starts_at)
) WITH (fillfactor = 50);

-- Which entry counted against which window. `customer_id` is the entry's, also for a budget of the deployment.
CREATE TABLE budget_postings (
    customer_id      text NOT NULL,
    entry_id         text NOT NULL,
    budget_id        text NOT NULL,
    window_starts_at timestamptz NOT NULL,
    usd_cents        numeric NOT NULL CHECK (usd_cents {FINITE}),
    booked_at        timestamptz NOT NULL,
    PRIMARY KEY (customer_id, entry_id, budget_id)
);
CREATE INDEX budget_postings_by_budget ON budget_postings (budget_id, window_starts_at);
"""

HOLDS = f"""
CREATE TABLE holds (
    customer_id          text NOT NULL,
    stream_id            text NOT NULL,
    request              json NOT NULL,
    fingerprint          bigint NOT NULL,
    mode                 text NOT NULL CHECK (mode IN ('worst_case', 'sliding')),
    held_usd_cents       numeric NOT NULL CHECK (held_usd_cents >= 0 AND held_usd_cents {FINITE}),
    covers_output_tokens bigint NOT NULL CHECK (covers_output_tokens >= 0),
    state                text NOT NULL CHECK (state IN ('open', 'settled', 'released', 'expired')),
    is_stopped           boolean NOT NULL DEFAULT false,
    made_at              timestamptz NOT NULL,
    expires_at           timestamptz NOT NULL,
    closed_at            timestamptz,
    settled_usd_cents    numeric CHECK (settled_usd_cents {FINITE}),
    budget_ids           text[] NOT NULL,
    standings            json NOT NULL,
    PRIMARY KEY (customer_id, stream_id),
    CHECK ((state = 'open') = (closed_at IS NULL)),
    CHECK ((state = 'settled') = (settled_usd_cents IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX holds_open ON holds (expires_at, customer_id, stream_id) WHERE state = 'open';
CREATE INDEX holds_open_of_customer ON holds (customer_id, stream_id) WHERE state = 'open';
CREATE INDEX holds_sliding ON holds (customer_id) WHERE state = 'open' AND mode = 'sliding';
CREATE INDEX holds_closed ON holds (closed_at) WHERE closed_at IS NOT NULL;

CREATE TABLE overruns (
    customer_id    text NOT NULL,
    entry_id       text NOT NULL,
    stream_id      text NOT NULL,
    reason         text NOT NULL CHECK (reason IN ('late_usage', 'counted_more', 'hold_expired', 'no_hold',
                                                   'failed_open', 'rerated')),
    usd_cents      numeric NOT NULL CHECK (usd_cents > 0 AND usd_cents {FINITE}),
    held_usd_cents numeric NOT NULL CHECK (held_usd_cents >= 0 AND held_usd_cents {FINITE}),
    booked_at      timestamptz NOT NULL,
    PRIMARY KEY (customer_id, entry_id)
);
CREATE INDEX overruns_by_time ON overruns (booked_at, customer_id, entry_id);
"""

GRANTS = """
GRANT SELECT, INSERT ON budgets, budget_versions, budget_windows, budget_postings, holds, overruns TO metering_service;
GRANT UPDATE (limit_usd_cents, action, unknown_price_usd_cents, version, held_usd_cents, counted_from,
              opened_at, ended_at)
    ON budgets TO metering_service;
GRANT UPDATE (opening_usd_cents, spent_usd_cents) ON budget_windows TO metering_service;
GRANT UPDATE (held_usd_cents, covers_output_tokens, state, is_stopped, expires_at, closed_at, settled_usd_cents,
              budget_ids) ON holds TO metering_service;
GRANT DELETE ON holds TO metering_service;
"""


def upgrade() -> None:
    for statements in (BUDGETS, HOLDS, GRANTS):
        op.execute(statements)

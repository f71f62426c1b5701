"""The price book: rate cards and their rates, providers' names, cancel policies, markups. Rows are only added."""

from alembic import op

revision = "0004_prices"
down_revision = "0003_events"
branch_labels = None
depends_on = None

# Without a check, NUMERIC accepts NaN and Infinity.
FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"

RATES = f"""
-- All rates of a model from a time on. A card with a `customer_id` is that customer's own.
CREATE TABLE rate_cards (
    rate_card_id   text PRIMARY KEY,
    provider       text NOT NULL,
    model          text NOT NULL,
    effective_from timestamptz NOT NULL,
    names          jsonb NOT NULL,
    position       integer,
    provenance     text NOT NULL,
    created_at     timestamptz NOT NULL,
    customer_id    text REFERENCES customers,
    UNIQUE NULLS NOT DISTINCT (customer_id, provider, model, effective_from)
);

-- '' is any service tier; from midnight until midnight is the whole day.
CREATE TABLE rates (
    rate_card_id       text NOT NULL REFERENCES rate_cards,
    kind               text NOT NULL CHECK (kind IN ('input', 'cache_read', 'cache_write', 'input_audio', 'output',
                                                     'reasoning', 'output_audio', 'request')),
    above_input_tokens bigint NOT NULL DEFAULT 0 CHECK (above_input_tokens >= 0),
    usd_per_million    numeric NOT NULL CHECK (usd_per_million >= 0 AND usd_per_million {FINITE}),
    provenance         text NOT NULL,
    service_tier       text NOT NULL DEFAULT '',
    daily_start        time NOT NULL DEFAULT '00:00',
    daily_end          time NOT NULL DEFAULT '00:00',
    PRIMARY KEY (rate_card_id, kind, service_tier, daily_start, daily_end, above_input_tokens)
);

-- Other names of a provider, and whose models it serves. The newest row of each counts.
CREATE TABLE rate_providers (
    provider         text NOT NULL,
    names            jsonb,
    serves_models_of text[] NOT NULL,
    position         integer NOT NULL,
    provenance       text NOT NULL,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (provider, created_at)
);
"""

TERMS = f"""
CREATE TABLE cancel_policies (
    provider       text NOT NULL CHECK (provider = lower(provider)),
    version        integer NOT NULL CHECK (version > 0),
    policy         text NOT NULL CHECK (policy IN ('delivered', 'drain', 'zero')),
    effective_from timestamptz NOT NULL,
    provenance     text NOT NULL,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (provider, version),
    UNIQUE (provider, effective_from)
);

CREATE TABLE markups (
    customer_id    text NOT NULL REFERENCES customers,
    effective_from timestamptz NOT NULL,
    percent        numeric NOT NULL CHECK (percent >= -100 AND percent {FINITE}),
    provenance     text NOT NULL,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (customer_id, effective_from)
);
"""

PRIVILEGES = """
GRANT SELECT, INSERT ON rate_cards, rates, rate_providers, cancel_policies, markups TO metering_service;
"""


def upgrade() -> None:
    for statements in (RATES, TERMS, PRIVILEGES):
        op.execute(statements)

"""The price book: service tiers, times of day, customers' own cards, markups, cancel policies, providers' names."""

from alembic import op

revision = "2026_11_28_price_book"
down_revision = "2026_11_27_json_as_written"
branch_labels = None
depends_on = None

FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"

RATES = """
ALTER TABLE rate_cards ADD COLUMN customer_id text REFERENCES customers;
ALTER TABLE rate_cards DROP CONSTRAINT rate_cards_provider_model_effective_from_key;
ALTER TABLE rate_cards ADD UNIQUE NULLS NOT DISTINCT (customer_id, provider, model, effective_from);

-- '' is any service tier; from midnight until midnight is the whole day.
ALTER TABLE rates
    ADD COLUMN service_tier text NOT NULL DEFAULT '',
    ADD COLUMN daily_start  time NOT NULL DEFAULT '00:00',
    ADD COLUMN daily_end    time NOT NULL DEFAULT '00:00';
ALTER TABLE rates DROP CONSTRAINT rates_pkey;
ALTER TABLE rates ADD PRIMARY KEY
    (rate_card_id, kind, service_tier, daily_start, daily_end, above_input_tokens);

ALTER TABLE rates DROP CONSTRAINT rates_kind_check;
ALTER TABLE rates ADD CHECK (kind IN ('input', 'cache_read', 'cache_write', 'input_audio', 'output', 'reasoning',
                                      'output_audio', 'request'));

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

CHARGES = f"""
ALTER TABLE charges
    ADD COLUMN service_tier          text,
    ADD COLUMN cancel_policy_version integer NOT NULL DEFAULT 0,
    ADD COLUMN model_rule            text,
    ADD COLUMN markup_percent        numeric NOT NULL DEFAULT 0 CHECK (markup_percent {FINITE}),
    ADD COLUMN retry_of              text;
"""

PRIVILEGES = """
GRANT SELECT ON rate_providers, cancel_policies, markups TO metering_service, metering_reader;
GRANT INSERT ON rate_providers, cancel_policies, markups TO metering_service;
"""


def upgrade() -> None:
    for statements in (RATES, TERMS, CHARGES, PRIVILEGES):
        op.execute(statements)

"""Keys, customers, journal, streams, rates, charges, adjustments and hourly totals."""

from alembic import op

revision = "2026_11_23_streams_and_charges"
down_revision = None
branch_labels = None
depends_on = None

# A NUMERIC accepts NaN and Infinity unless told not to.
FINITE = "NOT IN ('NaN', 'Infinity', '-Infinity')"

REFERENCE = f"""
CREATE TABLE customers (
    customer_id        text PRIMARY KEY CHECK (char_length(customer_id) BETWEEN 1 AND 128),
    name               text,
    stripe_customer_id text UNIQUE,
    time_zone          text NOT NULL DEFAULT 'UTC',
    created_at         timestamptz NOT NULL
);

CREATE TABLE keys (
    key_id      text PRIMARY KEY,
    secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    role        text NOT NULL CHECK (role IN ('ingest', 'read', 'admin')),
    customer_id text CHECK (customer_id IS NULL OR role = 'read'),
    name        text NOT NULL,
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz
);

CREATE TABLE rate_cards (
    rate_card_id   text PRIMARY KEY,
    provider       text NOT NULL,
    model          text NOT NULL,
    effective_from timestamptz NOT NULL,
    names          jsonb NOT NULL,
    position       integer,
    provenance     text NOT NULL,
    created_at     timestamptz NOT NULL,
    UNIQUE (provider, model, effective_from)
);

CREATE TABLE rates (
    rate_card_id       text NOT NULL REFERENCES rate_cards,
    kind               text NOT NULL CHECK (kind IN
                         ('input', 'cache_read', 'cache_write', 'input_audio', 'output', 'reasoning', 'output_audio')),
    above_input_tokens bigint NOT NULL DEFAULT 0 CHECK (above_input_tokens >= 0),
    usd_per_million    numeric NOT NULL CHECK (usd_per_million >= 0 AND usd_per_million {FINITE}),
    provenance         text NOT NULL,
    PRIMARY KEY (rate_card_id, kind, above_input_tokens)
);
"""

STREAMS = """
-- One row per request: its body as it came (inflated, then zstd), and which of its events were rejected.
CREATE TABLE journal (
    ingest_key_id text NOT NULL,
    received_at   timestamptz NOT NULL,
    journal_id    bigint GENERATED ALWAYS AS IDENTITY,
    media_type    text NOT NULL,
    event_count   integer NOT NULL CHECK (event_count > 0),
    rejected      integer[],
    body          bytea NOT NULL,
    PRIMARY KEY (ingest_key_id, received_at, journal_id)
) PARTITION BY RANGE (received_at);
ALTER TABLE journal ALTER COLUMN body SET STORAGE EXTERNAL;

-- The joined facts of each stream. A start and an end are each merged as a whole, so each is stored as a whole.
CREATE TABLE streams (
    customer_id                text NOT NULL,
    stream_id                  text NOT NULL,
    started_at                 timestamptz,
    start_fingerprint          bigint,
    start_data                 jsonb,
    start_conflicting          boolean NOT NULL DEFAULT false,
    delivered_seq              bigint,
    delivered_output_tokens    bigint CHECK (delivered_output_tokens >= 0),
    delivered_reasoning_tokens bigint CHECK (delivered_reasoning_tokens >= 0),
    last_event_at              timestamptz NOT NULL,
    end_rank                   smallint,
    ended_at                   timestamptz,
    end_fingerprint            bigint,
    end_data                   jsonb,
    end_conflicting            boolean NOT NULL DEFAULT false,
    last_received_at           timestamptz NOT NULL,
    state                      text NOT NULL CHECK (state IN
                                 ('open', 'ended', 'finalized', 'orphaned', 'unpriced', 'conflicting')),
    state_reason               text,
    due_at                     timestamptz,
    revision                   integer,
    PRIMARY KEY (customer_id, stream_id),
    CHECK ((started_at IS NULL) = (start_fingerprint IS NULL) AND (started_at IS NULL) = (start_data IS NULL)),
    CHECK ((ended_at IS NULL) = (end_fingerprint IS NULL) AND (ended_at IS NULL) = (end_data IS NULL)
           AND (ended_at IS NULL) = (end_rank IS NULL))
) WITH (fillfactor = 80);
-- The work: streams that the finalizer has to look at, oldest first.
CREATE INDEX streams_due ON streams (due_at) WHERE due_at IS NOT NULL;
-- What is not final: accrued amounts and the backlog.
CREATE INDEX streams_not_final ON streams (customer_id, state) WHERE state <> 'finalized';
"""

LEDGER = f"""
-- No foreign key to rate_cards: at 15,000 charges a second every worker would lock the same few cards.
CREATE TABLE charges (
    customer_id              text NOT NULL,
    stream_id                text NOT NULL,
    charge_id                text NOT NULL,
    booked_at                timestamptz NOT NULL,
    period                   text NOT NULL CHECK (period ~ '^[0-9]{{4}}-(0[1-9]|1[0-2])$'),
    outcome                  text NOT NULL CHECK (outcome IN
                               ('completed', 'cancelled', 'failed', 'timed_out', 'abandoned')),
    provider                 text NOT NULL,
    model                    text NOT NULL,
    response_model           text,
    api_key_id               text,
    started_at               timestamptz NOT NULL,
    ended_at                 timestamptz NOT NULL,
    input_tokens             bigint CHECK (input_tokens >= 0),
    output_tokens            bigint CHECK (output_tokens >= 0),
    cache_read_input_tokens  bigint CHECK (cache_read_input_tokens >= 0),
    cache_write_input_tokens bigint CHECK (cache_write_input_tokens >= 0),
    reasoning_output_tokens  bigint CHECK (reasoning_output_tokens >= 0),
    input_audio_tokens       bigint CHECK (input_audio_tokens >= 0),
    output_audio_tokens      bigint CHECK (output_audio_tokens >= 0),
    usage_source             text NOT NULL CHECK (usage_source IN ('provider', 'gateway_count', 'estimate')),
    input_unknown            boolean NOT NULL,
    cancel_policy            text NOT NULL,
    rate_card_id             text,
    rated_model              text,
    lines                    jsonb NOT NULL,
    usd_cents                numeric NOT NULL CHECK (usd_cents >= 0 AND usd_cents {FINITE}),
    PRIMARY KEY (customer_id, stream_id),
    CHECK (rate_card_id IS NOT NULL OR usd_cents = 0)
);
CREATE INDEX charges_by_end ON charges (ended_at, customer_id, stream_id);

CREATE TABLE adjustments (
    customer_id   text NOT NULL,
    adjustment_id text NOT NULL,
    stream_id     text NOT NULL,
    charge_id     text NOT NULL,
    revision      integer NOT NULL CHECK (revision > 0),
    booked_at     timestamptz NOT NULL,
    period        text NOT NULL CHECK (period ~ '^[0-9]{{4}}-(0[1-9]|1[0-2])$'),
    reason        text NOT NULL,
    usd_cents     numeric NOT NULL CHECK (usd_cents {FINITE}),
    ended_at      timestamptz,
    bill          jsonb,
    PRIMARY KEY (customer_id, adjustment_id),
    CHECK ((ended_at IS NULL) = (bill IS NULL)),
    UNIQUE (customer_id, stream_id, revision),
    FOREIGN KEY (customer_id, stream_id) REFERENCES charges
);
CREATE INDEX adjustments_by_end ON adjustments (ended_at);

-- Exact sums of the newest bills, by the hour in which their streams ended. Kept by whoever books.
CREATE TABLE totals_hourly (
    customer_id              text NOT NULL,
    hour                     timestamptz NOT NULL,
    provider                 text NOT NULL,
    model                    text NOT NULL,
    api_key_id               text NOT NULL,
    outcome                  text NOT NULL,
    usage_source             text NOT NULL,
    stream_count             bigint NOT NULL,
    input_tokens             numeric NOT NULL,
    output_tokens            numeric NOT NULL,
    cache_read_input_tokens  numeric NOT NULL,
    cache_write_input_tokens numeric NOT NULL,
    reasoning_output_tokens  numeric NOT NULL,
    input_audio_tokens       numeric NOT NULL,
    output_audio_tokens      numeric NOT NULL,
    usd_cents                numeric NOT NULL CHECK (usd_cents {FINITE}),
    PRIMARY KEY (customer_id, hour, provider, model, api_key_id, outcome, usage_source)
) WITH (fillfactor = 80);
CREATE INDEX totals_hourly_by_hour ON totals_hourly (hour);
"""

# The service may not run DDL, yet partitions must exist before their month begins: this one door is open.
PARTITIONS = """
CREATE FUNCTION ensure_journal_partitions(ahead_of timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    first_month timestamptz := date_trunc('month', ahead_of);
    from_month  timestamptz;
    made        integer := 0;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    FOR ahead IN 0..2 LOOP
        from_month := first_month + make_interval(months => ahead);
        IF to_regclass('journal_' || to_char(from_month, 'YYYY_MM')) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF journal FOR VALUES FROM (%L) TO (%L)',
                           'journal_' || to_char(from_month, 'YYYY_MM'), from_month,
                           from_month + interval '1 month');
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION ensure_journal_partitions(timestamptz) FROM PUBLIC;
SELECT ensure_journal_partitions(now());
"""

# Facts can be added and read by the service, never changed or removed: privileges say so, not habits.
PRIVILEGES = """
GRANT USAGE ON SCHEMA public TO metering_service, metering_reader;
GRANT SELECT ON customers, rate_cards, rates, streams, charges, adjustments, totals_hourly TO metering_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO metering_service;
GRANT INSERT ON journal, rate_cards, rates, charges, adjustments TO metering_service;
GRANT INSERT, UPDATE ON customers, streams, totals_hourly TO metering_service;
GRANT INSERT, UPDATE (name, revoked_at) ON keys TO metering_service;
GRANT EXECUTE ON FUNCTION ensure_journal_partitions(timestamptz) TO metering_service;
"""


def upgrade() -> None:
    for statements in (REFERENCE, STREAMS, LEDGER, PARTITIONS, PRIVILEGES):
        op.execute(statements)

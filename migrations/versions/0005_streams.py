"""Streams: the joined facts of each, admins' decisions about them, and streams that can be retried."""

from alembic import op

revision = "0005_streams"
down_revision = "0004_prices"
branch_labels = None
depends_on = None

STREAMS = """
-- A start and an end are each merged as a whole, so each is stored as a whole, as json: jsonb would cost a third of an
-- upsert and half of a claim. `first_received_at` is where a stream's events start in the journal.
CREATE TABLE streams (
    customer_id                text NOT NULL,
    stream_id                  text NOT NULL,
    started_at                 timestamptz,
    start_fingerprint          bigint,
    start_data                 json,
    start_conflicting          boolean NOT NULL DEFAULT false,
    delivered_seq              bigint,
    delivered_output_tokens    bigint CHECK (delivered_output_tokens >= 0),
    delivered_reasoning_tokens bigint CHECK (delivered_reasoning_tokens >= 0),
    last_event_at              timestamptz NOT NULL,
    end_rank                   smallint,
    ended_at                   timestamptz,
    end_fingerprint            bigint,
    end_data                   json,
    end_conflicting            boolean NOT NULL DEFAULT false,
    last_received_at           timestamptz NOT NULL,
    state                      text NOT NULL CHECK (state IN
                                 ('open', 'ended', 'finalized', 'orphaned', 'unpriced', 'conflicting')),
    state_reason               text,
    due_at                     timestamptz,
    revision                   integer,
    first_received_at          timestamptz NOT NULL,
    PRIMARY KEY (customer_id, stream_id),
    CHECK ((started_at IS NULL) = (start_fingerprint IS NULL) AND (started_at IS NULL) = (start_data IS NULL)),
    CHECK ((ended_at IS NULL) = (end_fingerprint IS NULL) AND (ended_at IS NULL) = (end_data IS NULL)
           AND (ended_at IS NULL) = (end_rank IS NULL))
) WITH (fillfactor = 80);
-- The work of the finalizer, longest waiting first. Every open or ended stream has a `due_at`, so accrued amounts are
-- read by this index as well.
CREATE INDEX streams_due ON streams (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX streams_backlog ON streams (customer_id, state) WHERE state IN ('orphaned', 'unpriced', 'conflicting');

GRANT SELECT, INSERT, UPDATE ON streams TO metering_service;
"""

RESOLUTIONS = """
-- A decision is about the facts at that time: it no longer holds once the fingerprints differ.
CREATE TABLE resolutions (
    customer_id       text NOT NULL,
    stream_id         text NOT NULL,
    resolved_at       timestamptz NOT NULL,
    action            text NOT NULL CHECK (action IN ('bill_as_is', 'write_off')),
    reason            text NOT NULL CHECK (reason <> ''),
    resolved_by       text NOT NULL,
    start_fingerprint bigint,
    end_fingerprint   bigint,
    PRIMARY KEY (customer_id, stream_id, resolved_at)
);

GRANT SELECT, INSERT ON resolutions TO metering_service;
"""

INTERRUPTED = """
-- Streams that ended early by their newest facts. Derived from facts, so the service may change rows.
CREATE TABLE interrupted_streams (
    customer_id text NOT NULL,
    stream_id   text NOT NULL,
    request_key bigint NOT NULL,
    ended_at    timestamptz NOT NULL,
    -- False once newer facts say that it did not end early after all.
    interrupted boolean NOT NULL,
    -- Retries before and after a change of `ended_at` can have started in this range.
    retry_from  timestamptz NOT NULL,
    retry_until timestamptz NOT NULL,
    -- False until retries that were booked without it are linked. This waits for transactions that could not see it:
    -- `barrier`.
    linked      boolean NOT NULL DEFAULT false,
    barrier     bigint,
    PRIMARY KEY (customer_id, stream_id)
);
CREATE INDEX interrupted_streams_by_request ON interrupted_streams (request_key, ended_at) WHERE interrupted;
CREATE INDEX interrupted_streams_not_linked ON interrupted_streams (customer_id, stream_id) WHERE NOT linked;

GRANT SELECT, INSERT, UPDATE, DELETE ON interrupted_streams TO metering_service;
"""


def upgrade() -> None:
    for statements in (STREAMS, RESOLUTIONS, INTERRUPTED):
        op.execute(statements)

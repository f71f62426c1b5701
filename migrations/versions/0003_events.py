"""The journal: every accepted request to the ingest API, as received, in monthly partitions."""

from alembic import op

revision = "0003_events"
down_revision = "0002_access"
branch_labels = None
depends_on = None

TABLES = """
-- An enum takes 4 bytes per request, the text 35.
CREATE TYPE events_media_type AS ENUM ('application/cloudevents+json', 'application/cloudevents-batch+json',
    'application/json', 'application/x-ndjson');

-- One row per request: its body (inflated, then zstd), and the indexes of rejected events. `stream_hashes` has the hash
-- of each stream in the request.
CREATE TABLE journal (
    ingest_key_id text NOT NULL,
    received_at   timestamptz NOT NULL,
    journal_id    bigint GENERATED ALWAYS AS IDENTITY,
    media_type    events_media_type NOT NULL,
    event_count   integer NOT NULL CHECK (event_count > 0),
    rejected      integer[],
    body          bytea NOT NULL,
    stream_hashes integer[],
    PRIMARY KEY (ingest_key_id, received_at, journal_id)
) PARTITION BY RANGE (received_at);
ALTER TABLE journal ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX journal_by_arrival ON journal (received_at, journal_id);

GRANT SELECT, INSERT ON journal TO metering_service;
"""

# The service may not run DDL, but partitions must exist before their month starts. This function may create them.
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
GRANT EXECUTE ON FUNCTION ensure_journal_partitions(timestamptz) TO metering_service;
SELECT ensure_journal_partitions(now());
"""

# The service may not drop facts. This function drops partitions past their retention, but always keeps at least
# 31 days: by then the month is closed and invoiced.
RETENTION = """
CREATE FUNCTION drop_journal_partitions(retention interval) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    partition_name text;
    dropped        text[] := '{}';
BEGIN
    IF retention < interval '31 days' THEN
        RAISE EXCEPTION 'the journal is kept for at least 31 days, not %', retention;
    END IF;
    PERFORM set_config('lock_timeout', '2s', true);
    FOR partition_name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'journal'::regclass ORDER BY c.relname
    LOOP
        IF to_timestamp(right(partition_name, 7), 'YYYY_MM') + interval '1 month' <= now() - retention THEN
            EXECUTE format('DROP TABLE %I', partition_name);
            dropped := dropped || partition_name;
        END IF;
    END LOOP;
    RETURN dropped;
END $$;
REVOKE ALL ON FUNCTION drop_journal_partitions(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_journal_partitions(interval) TO metering_service;
"""


def upgrade() -> None:
    for statements in (TABLES, PARTITIONS, RETENTION):
        op.execute(statements)

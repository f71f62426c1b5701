"""The journal can be read back by stream, and its old partitions dropped."""

from alembic import op

revision = "2026_11_24_journal_read_back"
down_revision = "2026_11_23_streams_and_charges"
branch_labels = None
depends_on = None

READ_BACK = """
-- Where in the journal a stream begins. For those that are there already: a day before anything known of them.
ALTER TABLE streams ADD COLUMN first_received_at timestamptz;
UPDATE streams SET first_received_at = LEAST(last_event_at, last_received_at) - interval '1 day';
ALTER TABLE streams ALTER COLUMN first_received_at SET NOT NULL;

-- Hashes of the streams that a request's events are of; NULL in rows from before, which may be of any.
ALTER TABLE journal ADD COLUMN stream_hashes integer[];
CREATE INDEX journal_by_arrival ON journal (received_at, journal_id);
"""

# The service may not drop facts; what is older than anyone may still dispute is dropped through this one door,
# which keeps at least 31 days whatever it is told: by then the month is closed and invoiced.
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
    for statements in (READ_BACK, RETENTION):
        op.execute(statements)

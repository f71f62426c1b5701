"""Scopes, bindings, expiry and rotation of keys; the audit log of admin actions; the least retention of the journal."""

from alembic import op

revision = "0016_access"
down_revision = "0015_limits"
branch_labels = None
depends_on = None

# Each row has the hash of the row before, so that a removed or changed row is found. The database sets both, and keeps
# the newest in `audit_log_head`, so that a removed last row is found as well. `before` and `after` are json and not
# jsonb: the hash is of the text as it was written.
AUDIT_LOG = """
CREATE TABLE audit_log (
    audit_id      bigint PRIMARY KEY,
    at            timestamptz NOT NULL,
    actor         text NOT NULL CHECK (actor <> ''),
    door          text NOT NULL,
    address       text,
    request_id    text,
    kind          text NOT NULL CHECK (kind <> ''),
    action        text NOT NULL CHECK (action <> ''),
    subject       text NOT NULL,
    before        json,
    after         json,
    previous_hash bytea NOT NULL,
    row_hash      bytea NOT NULL CHECK (octet_length(row_hash) = 32)
);
CREATE INDEX audit_log_by_subject ON audit_log (kind, subject, audit_id DESC);

CREATE TABLE audit_log_head (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    audit_id bigint NOT NULL,
    row_hash bytea NOT NULL
);
INSERT INTO audit_log_head (audit_id, row_hash) VALUES (0, '');

CREATE FUNCTION chain_audit_log() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    head    audit_log_head;
    field   text;
    content text;
BEGIN
    SELECT * INTO STRICT head FROM audit_log_head FOR UPDATE;
    NEW.audit_id := head.audit_id + 1;
    NEW.previous_hash := head.row_hash;
    content := encode(head.row_hash, 'hex');
    FOREACH field IN ARRAY ARRAY[
        NEW.audit_id::text, to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), NEW.actor, NEW.door,
        NEW.address, NEW.request_id, NEW.kind, NEW.action, NEW.subject, NEW.before::text, NEW.after::text]
    LOOP
        content := content || E'\\n' || coalesce(octet_length(field) || ' ' || field, '-');
    END LOOP;
    NEW.row_hash := sha256(convert_to(content, 'UTF8'));
    UPDATE audit_log_head SET audit_id = NEW.audit_id, row_hash = NEW.row_hash;
    RETURN NEW;
END $$;
CREATE TRIGGER chain_audit_log BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION chain_audit_log();

GRANT SELECT, INSERT ON audit_log TO metering_service;
GRANT SELECT ON audit_log_head TO metering_service;
"""

# `scopes` of a custom key; the other roles are groups of scopes that the code knows. While `old_secret_ends_at` is
# ahead, the secret before the last rotation is accepted as well.
KEYS = """
ALTER TABLE keys DROP CONSTRAINT keys_role_check, DROP CONSTRAINT keys_check;
ALTER TABLE keys
    ADD COLUMN scopes             text[],
    ADD COLUMN source             text CHECK (source <> ''),
    ADD COLUMN expires_at         timestamptz,
    ADD COLUMN last_used_at       timestamptz,
    ADD COLUMN old_secret_hash    bytea CHECK (octet_length(old_secret_hash) = 32),
    ADD COLUMN old_secret_ends_at timestamptz,
    ADD CONSTRAINT keys_role_check CHECK (role IN ('ingest', 'read', 'admin', 'custom')),
    ADD CONSTRAINT keys_scopes_check CHECK ((role = 'custom') = (scopes IS NOT NULL)),
    ADD CONSTRAINT keys_customer_check CHECK (customer_id IS NULL OR role <> 'admin'),
    ADD CONSTRAINT keys_source_check1 CHECK (source IS NULL OR role IN ('ingest', 'custom')),
    ADD CONSTRAINT keys_old_secret_check CHECK ((old_secret_hash IS NULL) = (old_secret_ends_at IS NULL));

REVOKE UPDATE (name) ON keys FROM metering_service;
GRANT UPDATE (secret_hash, old_secret_hash, old_secret_ends_at, last_used_at) ON keys TO metering_service;
GRANT UPDATE (expires_at) ON dashboard_sessions TO metering_service;

CREATE FUNCTION keep_keys_revoked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.revoked_at IS NOT NULL AND (NEW.revoked_at, NEW.secret_hash, NEW.old_secret_hash)
        IS DISTINCT FROM (OLD.revoked_at, OLD.secret_hash, OLD.old_secret_hash)
    THEN
        RAISE EXCEPTION 'key % is revoked: it stays so, with its secret', OLD.key_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_keys_revoked BEFORE UPDATE ON keys FOR EACH ROW EXECUTE FUNCTION keep_keys_revoked();

-- What the log shows of a secret, so that one that was put in its place is found. Secrets have 192 random bits.
CREATE FUNCTION secret_mark(secret_hash bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT
RETURN left(encode(sha256(secret_hash), 'hex'), 12);

INSERT INTO audit_log (at, actor, door, request_id, kind, action, subject, after)
SELECT now(), 'metering migrate', 'migration', '0016_access', 'key', 'known', key_id, json_build_object(
    'name', name, 'role', role, 'scopes', scopes, 'customer_id', customer_id, 'source', source,
    'expires_at', expires_at, 'revoked_at', revoked_at, 'secret', secret_mark(secret_hash))
FROM keys ORDER BY created_at, key_id;

INSERT INTO audit_log (at, actor, door, request_id, kind, action, subject, after)
SELECT now(), 'metering migrate', 'migration', '0016_access', 'customer', 'known', customer_id, json_build_object(
    'name', name, 'stripe_customer_id', stripe_customer_id, 'time_zone', time_zone)
FROM customers WHERE name IS NOT NULL OR stripe_customer_id IS NOT NULL OR time_zone <> 'UTC' ORDER BY customer_id;

INSERT INTO audit_log (at, actor, door, request_id, kind, action, subject, after)
SELECT now(), 'metering migrate', 'migration', '0016_access', 'adjustment', 'known', adjustment_id, json_build_object(
    'customer_id', customer_id, 'stream_id', stream_id, 'usd_cents', usd_cents::text)
FROM manual_adjustments ORDER BY booked_at, adjustment_id;

INSERT INTO audit_log (at, actor, door, request_id, kind, action, subject, after)
SELECT now(), 'metering migrate', 'migration', '0016_access', 'rate', 'known', rate_card_id, json_build_object(
    'provider', provider, 'model', model, 'customer_id', customer_id, 'effective_from', effective_from)
FROM rate_cards WHERE provenance LIKE 'set by %' ORDER BY created_at, rate_card_id;

INSERT INTO audit_log (at, actor, door, request_id, kind, action, subject, after)
SELECT now(), 'metering migrate', 'migration', '0016_access', 'webhook_endpoint', 'known', endpoint_id,
    json_build_object('url', url, 'description', description, 'types', types, 'enabled', disabled_at IS NULL)
FROM webhook_endpoints WHERE deleted_at IS NULL ORDER BY created_at, endpoint_id;

-- At the commit, the newest row of the log about a key says what the key is: nobody makes a key without a trace.
CREATE FUNCTION check_key_is_logged() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    key    keys;
    logged json;
BEGIN
    SELECT * INTO STRICT key FROM keys WHERE key_id = NEW.key_id;
    SELECT after INTO logged FROM audit_log WHERE kind = 'key' AND subject = NEW.key_id
    ORDER BY audit_id DESC LIMIT 1;
    IF logged IS NULL
        OR (logged ->> 'role', logged ->> 'customer_id', logged ->> 'source', logged ->> 'secret',
            (logged ->> 'expires_at')::timestamptz, (logged ->> 'revoked_at')::timestamptz,
            nullif((logged -> 'scopes')::jsonb, 'null'::jsonb))
        IS DISTINCT FROM (key.role, key.customer_id, key.source, secret_mark(key.secret_hash),
            key.expires_at, key.revoked_at, to_jsonb(key.scopes))
    THEN
        RAISE EXCEPTION 'key %: the audit log does not say this about it', NEW.key_id;
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER check_key_is_logged
    AFTER INSERT OR UPDATE OF key_id, role, scopes, customer_id, source, expires_at, revoked_at, secret_hash ON keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_key_is_logged();
"""

# `metering migrate`, which runs as the owner, sets the row to METERING_JOURNAL_RETENTION. The service can only read it.
RETENTION = """
CREATE TABLE journal_retention (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    at_least interval NOT NULL CHECK (at_least >= interval '31 days')
);
GRANT SELECT ON journal_retention TO metering_service;

CREATE OR REPLACE FUNCTION drop_journal_partitions(retention interval) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    partition_name text;
    allowed        interval;
    dropped        text[] := '{}';
BEGIN
    IF retention < interval '31 days' THEN
        RAISE EXCEPTION 'the journal is kept for at least 31 days, not %', retention;
    END IF;
    SELECT at_least INTO allowed FROM journal_retention;
    IF allowed IS NULL OR retention < allowed THEN
        RAISE EXCEPTION 'the owner of the database allows to drop %, not what is older than %',
            coalesce('what is older than ' || allowed, 'nothing'), retention
            USING HINT = 'run metering migrate with the same METERING_JOURNAL_RETENTION';
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
"""


def upgrade() -> None:
    for statements in (AUDIT_LOG, KEYS, RETENTION):
        op.execute(statements.replace(":", r"\:"))

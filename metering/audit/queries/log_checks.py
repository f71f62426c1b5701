"""Checks of the audit log: its chain of hashes is whole, and what admins can change is as the log says.

They share no code with what writes the log: the hash is computed again here.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, text

from metering.audit.difference import MAX_NAMED, Check, Difference, rows_that_differ

_TABLE = "audit_log"
_ROWS = text(
    """
    SELECT audit_id, at, actor, door, address, request_id, kind, action, subject, CAST(before AS text) AS before,
           CAST(after AS text) AS after, previous_hash, row_hash
    FROM audit_log ORDER BY audit_id
    """
)
_HEAD = text("SELECT audit_id, row_hash FROM audit_log_head")


def check_audit_log(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """No row of the log was removed, changed or put in between, whatever the period of the audit is."""
    del begin, end
    number, before = 0, b""
    found = 0
    for row in connection.execute(_ROWS, execution_options={"yield_per": 1_000}):
        for says in _faults(row, number + 1, before):
            yield Difference(_TABLE, str(row.audit_id), says)
            found += 1
        if found >= MAX_NAMED:
            return
        number, before = row.audit_id, row.row_hash
    head = connection.execute(_HEAD).one()
    if (head.audit_id, head.row_hash) != (number, before):
        yield Difference(_TABLE, str(head.audit_id), f"the last row is missing: the log ends with row {number}")


def _faults(row: Any, number: int, before: bytes) -> Iterator[str]:
    if row.audit_id != number:
        yield f"rows {number} to {row.audit_id - 1} before it are missing"
    elif row.previous_hash != before:
        yield "the row before it is not the one that was there when it was written"
    if row.row_hash != _hash(row):
        yield "the row was changed: its hash is of other values"


def _hash(row: Any) -> bytes:
    at = row.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    values = (str(row.audit_id), at, row.actor, row.door, row.address, row.request_id, row.kind, row.action,
              row.subject, row.before, row.after)  # fmt: skip
    return sha256("\n".join([row.previous_hash.hex(), *_written(values)]).encode()).digest()


def _written(values: Iterable[str | None]) -> Iterator[str]:
    for value in values:
        yield "-" if value is None else f"{len(value.encode())} {value}"


# The newest row of the log about a thing.
_LOGGED = """
LATERAL (SELECT (SELECT CAST(l.after AS jsonb) FROM audit_log l WHERE l.kind = '{kind}' AND l.subject = {subject}
                 ORDER BY l.audit_id DESC LIMIT 1) AS after) AS logged
"""


def check_keys_are_logged(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Each key has the role, the scopes, the bindings, the dates and the secret that the log says."""
    query = f"""
        SELECT k.key_id AS key, CASE WHEN logged.after IS NULL THEN 'the audit log does not know the key'
            ELSE format('stored role %s, customer %s, source %s, expires %s, revoked %s; the audit log says %s',
                k.role, k.customer_id, k.source, k.expires_at, k.revoked_at, logged.after) END AS says
        FROM keys k, {_LOGGED.format(kind="key", subject="k.key_id")}
        WHERE logged.after IS NULL
           OR (logged.after ->> 'role', logged.after ->> 'customer_id', logged.after ->> 'source',
               CAST(logged.after ->> 'expires_at' AS timestamptz),
               CAST(logged.after ->> 'revoked_at' AS timestamptz),
               nullif(logged.after -> 'scopes', 'null'), logged.after ->> 'secret')
              IS DISTINCT FROM (k.role, k.customer_id, k.source, k.expires_at, k.revoked_at, to_jsonb(k.scopes),
               left(encode(sha256(k.secret_hash), 'hex'), 12))
        ORDER BY k.key_id
    """
    return rows_that_differ(connection, "keys", query, begin, end)


def check_customers_are_logged(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Each customer has the name, the Stripe id and the time zone that the log says, or none and UTC."""
    query = f"""
        SELECT c.customer_id AS key, format('stored name %s, Stripe id %s, time zone %s; the audit log says %s',
               c.name, c.stripe_customer_id, c.time_zone, coalesce(logged.after, '{{}}')) AS says
        FROM customers c, {_LOGGED.format(kind="customer", subject="c.customer_id")}
        WHERE (logged.after ->> 'name', logged.after ->> 'stripe_customer_id',
               coalesce(logged.after ->> 'time_zone', 'UTC'))
              IS DISTINCT FROM (c.name, c.stripe_customer_id, c.time_zone)
        ORDER BY c.customer_id
    """
    return rows_that_differ(connection, "customers", query, begin, end)


def check_adjustments_are_logged(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Each adjustment by hand was booked by an action of the log, with its amount."""
    query = f"""
        WITH booked AS MATERIALIZED (SELECT adjustment_id, customer_id, usd_cents FROM manual_adjustments)
        SELECT m.adjustment_id AS key, format('stored %s cents of %s; the audit log says %s', m.usd_cents,
               m.customer_id, coalesce(logged.after ->> 'usd_cents', 'nothing')) AS says
        FROM booked m, {_LOGGED.format(kind="adjustment", subject="m.adjustment_id")}
        WHERE (logged.after ->> 'customer_id', CAST(logged.after ->> 'usd_cents' AS numeric))
              IS DISTINCT FROM (m.customer_id, m.usd_cents)
        ORDER BY m.adjustment_id
    """
    return rows_that_differ(connection, "manual_adjustments", query, begin, end)


def check_rates_are_logged(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Each rate card that a person set is as the log says, and each that the log has is stored.

    The rates themselves are in the id of the card, which is compared with them elsewhere.
    """
    query = """
        SELECT key, says FROM (
            SELECT c.rate_card_id AS key,
                   format('%s for %s/%s from %s, and the audit log does not say so', c.provenance, c.provider,
                          c.model, c.effective_from) AS says
            FROM rate_cards c
            WHERE c.provenance LIKE 'set by %' AND NOT EXISTS (
                SELECT FROM audit_log l, CAST(l.after AS jsonb) AS said
                WHERE l.kind = 'rate' AND l.subject = c.rate_card_id AND (l.action <> 'set' OR
                    ('set by ' || l.actor, said ->> 'provider', said ->> 'model', said ->> 'customer_id',
                     CAST(said ->> 'effective_from' AS timestamptz), jsonb_array_length(said -> 'rates'))
                    IS NOT DISTINCT FROM
                    (c.provenance, c.provider, c.model, c.customer_id, c.effective_from,
                     (SELECT count(*)::int FROM rates r WHERE r.rate_card_id = c.rate_card_id))))
            UNION ALL
            SELECT l.subject, 'the audit log says that it was set, and it is not stored' FROM audit_log l
            WHERE l.kind = 'rate' AND l.action = 'set'
              AND NOT EXISTS (SELECT FROM rate_cards c WHERE c.rate_card_id = l.subject)) AS found
        ORDER BY key
    """
    return rows_that_differ(connection, "rate_cards", query, begin, end)


# Terms that were set before the log began are not in it; of a database that began with it, none were.
_BEGAN = "coalesce((SELECT min(at) FROM audit_log WHERE action = 'known'), '-infinity')"


def check_cancel_policies_are_logged(
    connection: Connection, begin: datetime, end: datetime
) -> Iterator[Difference]:
    """Each cancel policy is as the log says that it was set, and each that the log has is stored."""
    values = {"policy": "text", "version": "integer"}
    return _terms_that_differ(connection, "cancel_policies", "provider", values, begin, end)


def check_markups_are_logged(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Each markup is as the log says that it was set, and each that the log has is stored."""
    return _terms_that_differ(connection, "markups", "customer_id", {"percent": "numeric"}, begin, end)


def check_upstream_prices_are_logged(
    connection: Connection, begin: datetime, end: datetime
) -> Iterator[Difference]:
    """Each setting for a provider's own prices is as the log says, and each that the log has is stored."""
    return _terms_that_differ(connection, "upstream_prices", "provider", {"accepted": "boolean"}, begin, end)


_KIND_OF_TERMS = {"cancel_policies": "cancel_policy", "markups": "markup", "upstream_prices": "upstream_price"}


def _terms_that_differ(
    connection: Connection, table: str, subject: str, values: Mapping[str, str], begin: datetime, end: datetime
) -> Iterator[Difference]:
    """Compare dated terms: their `values`, each with its type, who set them, and when."""
    said = ", ".join(f"CAST(said ->> '{name}' AS {kind})" for name, kind in values.items())
    stored = ", ".join(f"t.{name}" for name in values)
    from_ = "CAST(said ->> 'effective_from' AS timestamptz)"
    query = f"""
        WITH terms AS MATERIALIZED (SELECT * FROM {table})
        SELECT key, says FROM (
            SELECT format('%s from %s', t.{subject}, t.effective_from) AS key,
                   format('%s %s at %s, and the audit log does not say so', concat_ws(', ', {stored}),
                          t.provenance, t.created_at) AS says
            FROM terms t
            WHERE t.created_at >= {_BEGAN} AND NOT EXISTS (
                SELECT FROM audit_log l, CAST(l.after AS jsonb) AS said
                WHERE l.kind = '{_KIND_OF_TERMS[table]}' AND l.action = 'set' AND l.subject = t.{subject}
                  AND (l.at, 'set by ' || l.actor, {from_}, {said})
                      = (t.created_at, t.provenance, t.effective_from, {stored}))
            UNION ALL
            SELECT format('%s from %s', l.subject, {from_}),
                   'the audit log says that it was set, and it is not stored'
            FROM audit_log l, CAST(l.after AS jsonb) AS said
            WHERE l.kind = '{_KIND_OF_TERMS[table]}' AND l.action = 'set' AND NOT EXISTS (
                SELECT FROM terms t WHERE t.{subject} = l.subject AND t.effective_from = {from_})) AS found
        ORDER BY key
    """
    return rows_that_differ(connection, table, query, begin, end)


def check_limits_are_logged(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Each key has the limits that the log says last, or none since it was created.

    Of a key that is older than the log, and whose limits were not changed since, the log says nothing.
    """
    query = """
        SELECT k.key_id AS key, format('stored limits %s, %s, %s; the audit log says %s', k.events_per_second,
               k.requests_per_second, k.concurrent_requests, coalesce(said.after, '{}')) AS says
        FROM keys k LEFT JOIN LATERAL (
            SELECT CAST(l.after AS jsonb) AS after FROM audit_log l
            WHERE l.kind = 'key' AND l.subject = k.key_id AND l.action = 'limit'
            ORDER BY l.audit_id DESC LIMIT 1) AS said ON true
        WHERE (CAST(said.after ->> 'events_per_second' AS integer),
               CAST(said.after ->> 'requests_per_second' AS integer),
               CAST(said.after ->> 'concurrent_requests' AS integer))
              IS DISTINCT FROM (k.events_per_second, k.requests_per_second, k.concurrent_requests)
          AND (said.after IS NOT NULL OR EXISTS (
               SELECT FROM audit_log l WHERE l.kind = 'key' AND l.subject = k.key_id AND l.action = 'create'))
        ORDER BY k.key_id
    """
    return rows_that_differ(connection, "keys", query, begin, end)


def check_endpoints_are_logged(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Messages go to the addresses that the log says."""
    query = """
        SELECT e.endpoint_id AS key, format('stored URL %s; the audit log says %s', e.url,
               coalesce(logged.after ->> 'url', 'nothing')) AS says
        FROM webhook_endpoints e, LATERAL (
            SELECT (SELECT CAST(l.after AS jsonb) FROM audit_log l
                    WHERE l.kind = 'webhook_endpoint' AND l.subject = e.endpoint_id AND l.action <> 'rotate-secret'
                    ORDER BY l.audit_id DESC LIMIT 1) AS after) AS logged
        WHERE e.deleted_at IS NULL AND logged.after ->> 'url' IS DISTINCT FROM e.url
        ORDER BY e.endpoint_id
    """
    return rows_that_differ(connection, "webhook_endpoints", query, begin, end)


LOG_CHECKS: tuple[Check, ...] = (
    check_audit_log,
    check_keys_are_logged,
    check_limits_are_logged,
    check_customers_are_logged,
    check_adjustments_are_logged,
    check_rates_are_logged,
    check_cancel_policies_are_logged,
    check_markups_are_logged,
    check_upstream_prices_are_logged,
    check_endpoints_are_logged,
)

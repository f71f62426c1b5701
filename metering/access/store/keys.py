"""SQL that writes API keys and finds the key of a secret. Only hashes of secrets are stored."""

import hmac
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, text

from metering.access.keys import Key, KeyLimits, KeySecret, UnknownKeyError
from metering.access.scopes import Role

# The time of a key's last use is stored at most this often.
LAST_USE_EVERY = timedelta(minutes=1)

KEY_ROW = (
    "keys.key_id, keys.role, keys.scopes, keys.customer_id, keys.source, keys.name, keys.created_at,"
    " keys.expires_at, keys.revoked_at, keys.last_used_at, keys.old_secret_ends_at,"
    " keys.events_per_second, keys.requests_per_second, keys.concurrent_requests"
)
_ADD_KEY = text(
    """
    INSERT INTO keys (key_id, secret_hash, role, scopes, customer_id, source, name, created_at, expires_at)
    VALUES (:key_id, :secret_hash, :role, :scopes, :customer_id, :source, :name, :created_at, :expires_at)
    ON CONFLICT DO NOTHING
    """
)


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The key of a secret, and when this secret ends; None if it does not."""

    key: Key
    ends_at: datetime | None


def add_key(connection: Connection, key: Key, *, secret: KeySecret) -> bool:
    """Store a new key; False if a key with this id already exists."""
    parameters = {
        "key_id": key.key_id,
        "secret_hash": hash_of(str(secret)),
        "role": key.role.value,
        "scopes": None if key.listed is None else list(key.listed),
        "customer_id": key.customer_id,
        "source": key.source,
        "name": key.name,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
    }
    return connection.execute(_ADD_KEY, parameters).rowcount == 1


_VALID_KEYS = text(
    f"""
    SELECT secret_hash, CASE WHEN old_secret_ends_at > :now THEN old_secret_hash END AS old_secret_hash, {KEY_ROW}
    FROM keys WHERE key_id = ANY(:key_ids) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)
    """
)


def authenticate(connection: Connection, secret: KeySecret, *, now: datetime) -> Authenticated | None:
    """The key with this secret; None when it is unknown, expired or revoked, or the secret's overlap is over."""
    return authenticate_all(connection, [secret], now=now)[0]


def authenticate_all(
    connection: Connection, given: Sequence[KeySecret], *, now: datetime
) -> list[Authenticated | None]:
    """The same for each secret, in one query."""
    parameters = {"key_ids": list({secret.key_id for secret in given}), "now": now}
    stored = {row.key_id: row for row in connection.execute(_VALID_KEYS, parameters)}
    return [_if_same(stored.get(secret.key_id), secret) for secret in given]


def _if_same(row: Any, secret: KeySecret) -> Authenticated | None:
    if row is None:
        return None
    sent, key = hash_of(str(secret)), key_of(row)
    if hmac.compare_digest(row.secret_hash, sent):
        return Authenticated(key, key.expires_at)
    if row.old_secret_hash is not None and hmac.compare_digest(row.old_secret_hash, sent):
        return Authenticated(key, min(filter(None, (key.expires_at, key.old_secret_ends_at))))
    return None


_KEYS = text(f"SELECT {KEY_ROW} FROM keys ORDER BY created_at, key_id")


def list_keys(connection: Connection) -> list[Key]:
    """All keys, oldest first."""
    return [key_of(row) for row in connection.execute(_KEYS)]


_LOCK = text(f"SELECT {KEY_ROW} FROM keys WHERE key_id = :key_id FOR UPDATE")


def lock_key(connection: Connection, *, key_id: str) -> Key:
    """A key, which no other transaction changes until this one ends.

    Raises:
        UnknownKeyError: no key has this id.
    """
    row = connection.execute(_LOCK, {"key_id": key_id}).first()
    if row is None:
        raise UnknownKeyError(f"no key has the id {key_id!r}: `metering keys list` shows them")
    return key_of(row)


_LIMIT = text(
    """
    UPDATE keys SET events_per_second = :events_per_second, requests_per_second = :requests_per_second,
                    concurrent_requests = :concurrent_requests
    WHERE key_id = :key_id
    """
)


def store_limits(connection: Connection, *, key_id: str, limits: KeyLimits) -> None:
    """Replace the limits of a key."""
    connection.execute(_LIMIT, {"key_id": key_id, **asdict(limits)})


_MARK = text("SELECT secret_mark(secret_hash) FROM keys WHERE key_id = :key_id")


def secret_mark(connection: Connection, *, key_id: str) -> str:
    """A few digits of a hash that tell one secret of a key from another, for the audit log."""
    mark: str = connection.execute(_MARK, {"key_id": key_id}).scalar_one()
    return mark


_ADMIN_KEYS = text(
    "SELECT FROM keys WHERE role = 'admin' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)"
    " LIMIT 1"
)


def has_admin_key(connection: Connection, *, now: datetime) -> bool:
    """Whether an admin key is accepted now."""
    return connection.execute(_ADMIN_KEYS, {"now": now}).first() is not None


_REVOKE = text("UPDATE keys SET revoked_at = :now WHERE key_id = :key_id AND revoked_at IS NULL")


def mark_revoked(connection: Connection, *, key_id: str, now: datetime) -> None:
    """Revoke a key. Revoking it again keeps the first time."""
    connection.execute(_REVOKE, {"key_id": key_id, "now": now})


_ROTATE = text(
    """
    UPDATE keys SET secret_hash = :secret_hash, old_secret_hash = secret_hash, old_secret_ends_at = :old_ends_at
    WHERE key_id = :key_id
    """
)


def store_secret(connection: Connection, secret: KeySecret, *, old_ends_at: datetime) -> None:
    """Give a key a new secret; the one before is accepted until it ends."""
    parameters = {"key_id": secret.key_id, "secret_hash": hash_of(str(secret)), "old_ends_at": old_ends_at}
    connection.execute(_ROTATE, parameters)


# A row is written at most once a minute, by whichever process comes first.
_MARK_USED = text(
    """
    UPDATE keys SET last_used_at = :now
    WHERE key_id = ANY(:key_ids) AND (last_used_at IS NULL OR last_used_at <= :before)
    """
)


def mark_used(connection: Connection, key_ids: Collection[str], *, now: datetime) -> int:
    """Store that keys were used, unless that was stored within the last minute; returns how many rows changed."""
    parameters = {"key_ids": sorted(key_ids), "now": now, "before": now - LAST_USE_EVERY}
    return connection.execute(_MARK_USED, parameters).rowcount


def hash_of(secret: str) -> bytes:
    """The stored form of a secret. Secrets are random enough that a plain hash cannot be reversed."""
    return sha256(secret.encode()).digest()


def key_of(row: Any) -> Key:
    """The key of a row with the columns of `KEY_ROW`."""
    listed: Sequence[str] | None = row.scopes
    return Key(
        key_id=row.key_id,
        role=Role(row.role),
        listed=None if listed is None else tuple(listed),
        customer_id=row.customer_id,
        source=row.source,
        name=row.name,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        limits=KeyLimits(
            events_per_second=row.events_per_second,
            requests_per_second=row.requests_per_second,
            concurrent_requests=row.concurrent_requests,
        ),
        last_used_at=row.last_used_at,
        old_secret_ends_at=row.old_secret_ends_at,
    )

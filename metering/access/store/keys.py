"""API keys and dashboard sessions. Only a hash of a secret is stored."""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, text

from metering.core.errors import MeteringError


class Role(StrEnum):
    """What a key may do: post events, read, or everything (admin)."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


class InvalidKeyError(MeteringError):
    """The text does not have the form of a key: mk_<id>_<secret>."""


class UnknownKeyError(MeteringError):
    """No key has this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What the requests of a key may do; None: the limit of the deployment, if it has one."""

    events_per_second: int | None = None
    requests_per_second: int | None = None
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key without its secret. `customer_id` binds a read key to one customer."""

    key_id: str
    role: Role
    customer_id: str | None
    name: str
    created_at: datetime
    revoked_at: datetime | None
    limits: KeyLimits = KeyLimits()


@dataclass(frozen=True, slots=True)
class KeySecret:
    """A key with its secret, as its holder sends it."""

    key_id: str
    secret: str

    def __str__(self) -> str:
        return f"mk_{self.key_id}_{self.secret}"


def generate_secret() -> KeySecret:
    """A new key with a random secret."""
    return KeySecret(secrets.token_hex(6), secrets.token_hex(24))


def parse_secret(written: str) -> KeySecret:
    """The parts of `mk_<id>_<secret>`.

    Raises:
        InvalidKeyError: the text does not have this form.
    """
    prefix, _, rest = written.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != "mk" or not key_id or not secret or "\0" in written:
        raise InvalidKeyError("a key has the form mk_<id>_<secret>")
    return KeySecret(key_id, secret)


_KEY = """keys.key_id, keys.role, keys.customer_id, keys.name, keys.created_at, keys.revoked_at,
    keys.events_per_second, keys.requests_per_second, keys.concurrent_requests"""
_ADD_KEY = text(
    """
    INSERT INTO keys (key_id, secret_hash, role, customer_id, name, created_at)
    VALUES (:key_id, :secret_hash, :role, :customer_id, :name, :now) ON CONFLICT DO NOTHING
    """
)


def add_key(
    connection: Connection,
    *,
    secret: KeySecret,
    role: Role,
    customer_id: str | None,
    name: str,
    now: datetime,
) -> bool:
    """Store a key; False if a key with this id already exists."""
    parameters = {
        "key_id": secret.key_id,
        "secret_hash": _hash(str(secret)),
        "role": role.value,
        "customer_id": customer_id,
        "name": name,
        "now": now,
    }
    return connection.execute(_ADD_KEY, parameters).rowcount == 1


_VALID_KEYS = text(f"SELECT secret_hash, {_KEY} FROM keys WHERE key_id = ANY(:key_ids) AND revoked_at IS NULL")


def authenticate(connection: Connection, secret: KeySecret) -> Key | None:
    """The key with this secret; None when it is unknown or revoked."""
    return authenticate_all(connection, [secret])[0]


def authenticate_all(connection: Connection, given: Sequence[KeySecret]) -> list[Key | None]:
    """The same for each secret, in one query."""
    rows = connection.execute(_VALID_KEYS, {"key_ids": list({secret.key_id for secret in given})})
    stored = {row.key_id: row for row in rows}
    return [_if_same(stored.get(secret.key_id), secret) for secret in given]


def _if_same(row: Any, secret: KeySecret) -> Key | None:
    if row is None or not hmac.compare_digest(row.secret_hash, _hash(str(secret))):
        return None
    return _key(row)


_KEYS = text(f"SELECT {_KEY} FROM keys ORDER BY created_at, key_id")


def list_keys(connection: Connection) -> list[Key]:
    """All keys, oldest first."""
    return [_key(row) for row in connection.execute(_KEYS)]


_ADMIN_KEYS = text("SELECT FROM keys WHERE role = 'admin' AND revoked_at IS NULL LIMIT 1")


def has_admin_key(connection: Connection) -> bool:
    """Whether an admin key exists that is not revoked."""
    return connection.execute(_ADMIN_KEYS).first() is not None


_REVOKE = text("UPDATE keys SET revoked_at = coalesce(revoked_at, :now) WHERE key_id = :key_id")


def revoke_key(connection: Connection, *, key_id: str, now: datetime) -> None:
    """Revoke a key. Revoking it again keeps the first time.

    Raises:
        UnknownKeyError: no key has this id.
    """
    if connection.execute(_REVOKE, {"key_id": key_id, "now": now}).rowcount == 0:
        raise UnknownKeyError(f"no key has the id {key_id!r}: `metering keys list` shows them")


_LIMIT = text(
    """
    UPDATE keys SET events_per_second = :events_per_second, requests_per_second = :requests_per_second,
                    concurrent_requests = :concurrent_requests
    WHERE key_id = :key_id
    """
)
_LOCK_KEY = text(f"SELECT {_KEY} FROM keys WHERE key_id = :key_id FOR UPDATE")


def read_key(connection: Connection, *, key_id: str) -> Key:
    """A key, locked until the transaction ends.

    Raises:
        UnknownKeyError: no key has this id.
    """
    row = connection.execute(_LOCK_KEY, {"key_id": key_id}).first()
    if row is None:
        raise UnknownKeyError(f"no key has the id {key_id!r}: `metering keys list` shows them")
    return _key(row)


def limit_key(connection: Connection, *, key_id: str, limits: KeyLimits) -> None:
    """Replace the limits of a key."""
    connection.execute(_LIMIT, {"key_id": key_id, **asdict(limits)})


def _hash(secret: str) -> bytes:
    # Secrets are random enough that a plain hash cannot be reversed.
    return sha256(secret.encode()).digest()


def _key(row: Any) -> Key:
    return Key(
        key_id=row.key_id,
        role=Role(row.role),
        customer_id=row.customer_id,
        name=row.name,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        limits=KeyLimits(
            events_per_second=row.events_per_second,
            requests_per_second=row.requests_per_second,
            concurrent_requests=row.concurrent_requests,
        ),
    )


_DROP_EXPIRED = text("DELETE FROM dashboard_sessions WHERE expires_at <= :now")
_ADD_SESSION = text(
    """
    INSERT INTO dashboard_sessions (session_hash, key_id, created_at, expires_at)
    VALUES (:session_hash, :key_id, :now, :expires_at)
    """
)


def begin_session(connection: Connection, *, key_id: str, now: datetime, lifetime: timedelta) -> str:
    """Start a session of a key; returns the token for the browser. Expired sessions are deleted."""
    connection.execute(_DROP_EXPIRED, {"now": now})
    session = secrets.token_urlsafe(32)
    parameters = {"session_hash": _hash(session), "key_id": key_id, "now": now, "expires_at": now + lifetime}
    connection.execute(_ADD_SESSION, parameters)
    return session


_KEY_OF_SESSION = text(
    f"""
    SELECT {_KEY} FROM keys JOIN dashboard_sessions AS s USING (key_id)
    WHERE s.session_hash = :session_hash AND s.expires_at > :now AND revoked_at IS NULL
    """
)


def key_of_session(connection: Connection, *, session: str, now: datetime) -> Key | None:
    """The key that a session signed in with; None when the session has expired or the key is revoked."""
    row = connection.execute(_KEY_OF_SESSION, {"session_hash": _hash(session), "now": now}).first()
    return _key(row) if row is not None else None


_END_SESSION = text("DELETE FROM dashboard_sessions WHERE session_hash = :session_hash")


def end_session(connection: Connection, *, session: str) -> None:
    """Sign a session out."""
    connection.execute(_END_SESSION, {"session_hash": _hash(session)})

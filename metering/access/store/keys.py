"""API keys and dashboard sessions. Only a hash of a secret is stored."""

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from metering.core.errors import MeteringError
from metering.db.tables import dashboard_sessions, keys


class Role(StrEnum):
    """What a key may do: post events, read, or everything."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


class InvalidKeyError(MeteringError):
    """A key that is not written as keys are: mk_<id>_<secret>."""


class UnknownKeyError(MeteringError):
    """There is no such key to revoke."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key without its secret. `customer_id` binds a read key to one customer."""

    key_id: str
    role: Role
    customer_id: str | None
    name: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeySecret:
    """A key as its holder writes it."""

    key_id: str
    secret: str

    def __str__(self) -> str:
        return f"mk_{self.key_id}_{self.secret}"


def generate_secret() -> KeySecret:
    """A new key, random enough that a plain hash of it cannot be reversed."""
    return KeySecret(secrets.token_hex(6), secrets.token_hex(24))


def parse_secret(text: str) -> KeySecret:
    """The parts of `mk_<id>_<secret>`.

    Raises:
        InvalidKeyError: it is not written so.
    """
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != "mk" or not key_id or not secret or "\0" in text:
        raise InvalidKeyError("a key is written as mk_<id>_<secret>")
    return KeySecret(key_id, secret)


def add_key(
    connection: Connection,
    *,
    secret: KeySecret,
    role: Role,
    customer_id: str | None,
    name: str,
    now: datetime,
) -> bool:
    """Store a key; False when one with this id is there already."""
    statement = (
        insert(keys)
        .values(
            key_id=secret.key_id,
            secret_hash=_hash(secret),
            role=role.value,
            customer_id=customer_id,
            name=name,
            created_at=now,
        )
        .on_conflict_do_nothing()
    )
    return connection.execute(statement).rowcount == 1


def authenticate(connection: Connection, secret: KeySecret) -> Key | None:
    """The key with this secret, unless it is unknown or revoked."""
    row = connection.execute(
        select(keys).where(keys.c.key_id == secret.key_id, keys.c.revoked_at.is_(None))
    ).first()
    if row is None or not hmac.compare_digest(row.secret_hash, _hash(secret)):
        return None
    return _key(row)


def find_key(connection: Connection, *, key_id: str) -> Key | None:
    """The key with this id, unless it is unknown or revoked."""
    row = connection.execute(select(keys).where(keys.c.key_id == key_id, keys.c.revoked_at.is_(None))).first()
    return _key(row) if row is not None else None


def list_keys(connection: Connection) -> list[Key]:
    """All keys, oldest first."""
    return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.created_at, keys.c.key_id))]


def has_admin_key(connection: Connection) -> bool:
    """Whether anyone can administer this deployment."""
    query = select(keys.c.key_id).where(keys.c.role == Role.ADMIN.value, keys.c.revoked_at.is_(None)).limit(1)
    return connection.execute(query).first() is not None


def revoke_key(connection: Connection, *, key_id: str, now: datetime) -> None:
    """End a key's life. Revoking it twice keeps the first time.

    Raises:
        UnknownKeyError: there is no such key.
    """
    if connection.execute(select(keys.c.key_id).where(keys.c.key_id == key_id)).first() is None:
        raise UnknownKeyError(f"no key has the id {key_id!r}: `metering keys list` shows them")
    connection.execute(
        update(keys).where(keys.c.key_id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=now)
    )


def _hash(secret: KeySecret) -> bytes:
    return sha256(str(secret).encode()).digest()


def _key(row: Any) -> Key:
    return Key(
        key_id=row.key_id,
        role=Role(row.role),
        customer_id=row.customer_id,
        name=row.name,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )


def begin_session(connection: Connection, *, key_id: str, now: datetime, lifetime: timedelta) -> str:
    """A new session of a key, as the browser is to send it; those that have expired are let go."""
    connection.execute(delete(dashboard_sessions).where(dashboard_sessions.c.expires_at <= now))
    session = secrets.token_urlsafe(32)
    connection.execute(
        insert(dashboard_sessions).values(
            session_hash=_token_hash(session), key_id=key_id, created_at=now, expires_at=now + lifetime
        )
    )
    return session


def key_of_session(connection: Connection, *, session: str, now: datetime) -> Key | None:
    """The key that it signed in with; None when the session is over, or the key is revoked."""
    row = connection.execute(
        select(dashboard_sessions.c.key_id).where(
            dashboard_sessions.c.session_hash == _token_hash(session), dashboard_sessions.c.expires_at > now
        )
    ).first()
    return find_key(connection, key_id=row.key_id) if row is not None else None


def end_session(connection: Connection, *, session: str) -> None:
    """Sign it out."""
    connection.execute(delete(dashboard_sessions).where(dashboard_sessions.c.session_hash == _token_hash(session)))


def _token_hash(session: str) -> bytes:
    # Random enough that a plain hash of it cannot be reversed.
    return sha256(session.encode()).digest()

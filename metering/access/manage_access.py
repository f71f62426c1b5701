"""Create keys and SQL readers, and ensure that a new deployment has an admin key. Secrets are shown once."""

import secrets
from datetime import datetime

from sqlalchemy import Connection, Engine

from metering.access.store.keys import (
    KeySecret,
    Role,
    add_key,
    authenticate,
    generate_secret,
    has_admin_key,
    parse_secret,
)
from metering.access.store.readers import add_reader
from metering.core.errors import MeteringError
from metering.db.engine import transaction


class KeyIdTakenError(MeteringError):
    """The configured admin key has the id of a stored key with another secret, or of a revoked one."""


class KeyBindingError(MeteringError):
    """Only a read key can be bound to a customer."""


def create_key(*, engine: Engine, role: Role, name: str, customer_id: str | None, now: datetime) -> KeySecret:
    """Store a new key and return it; its secret cannot be shown again.

    Raises:
        KeyBindingError: a customer is given, and the role is not `read`.
    """
    if customer_id is not None and role is not Role.READ:
        raise KeyBindingError(
            f"--customer: only a read key can be bound to a customer, not a key with role {role}"
        )
    secret = generate_secret()
    with transaction(engine) as connection:
        add_key(connection, secret=secret, role=role, customer_id=customer_id, name=name, now=now)
    return secret


def ensure_admin_key(*, engine: Engine, configured: str | None, now: datetime) -> KeySecret | None:
    """Store the configured admin key; without one, generate a key if there is no admin key, and return it.

    Raises:
        InvalidKeyError: the configured key does not have the form of a key.
        KeyIdTakenError: its id belongs to another key, or to a revoked one.
    """
    with transaction(engine) as connection:
        if configured is not None:
            _store_configured(connection, parse_secret(configured), now)
            return None
        if has_admin_key(connection):
            return None
        secret = generate_secret()
        add_key(connection, secret=secret, role=Role.ADMIN, customer_id=None, name="first admin key", now=now)
        return secret


def _store_configured(connection: Connection, secret: KeySecret, now: datetime) -> None:
    name = "METERING_ADMIN_KEY"
    is_new = add_key(connection, secret=secret, role=Role.ADMIN, customer_id=None, name=name, now=now)
    if is_new:
        return
    known = authenticate(connection, secret)
    if known is None or known.role is not Role.ADMIN:
        raise KeyIdTakenError(
            f"METERING_ADMIN_KEY: the id {secret.key_id!r} belongs to a key with another secret, or to a revoked "
            "one: choose another id"
        )


def create_reader(*, owner: Engine, name: str) -> str:
    """Create a SQL reader and return its password, which cannot be shown again.

    Raises:
        InvalidReaderNameError, ReaderExistsError, ReaderRefusedError: see `add_reader`.
    """
    password = secrets.token_hex(24)
    with transaction(owner) as connection:
        add_reader(connection, name=name, password=password)
    return password

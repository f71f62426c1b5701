"""Create, rotate and revoke keys, and ensure that a new deployment has an admin key. A secret is shown once."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from metering.access.actors import Author
from metering.access.keys import Key, KeySecret, KeyState, parse_secret
from metering.access.scopes import OF_ONE_CUSTOMER, Role, Scope, parse_scopes
from metering.access.store.audit_log import State, log_action
from metering.access.store.keys import (
    add_key,
    authenticate,
    has_admin_key,
    lock_key,
    mark_revoked,
    secret_mark,
    store_limits,
    store_secret,
)
from metering.access.store.sessions import end_sessions_with_secret
from metering.core.errors import MeteringError
from metering.db.engine import transaction

MAX_OVERLAP = timedelta(days=30)


class KeyIdTakenError(MeteringError):
    """A configured key has the id of a stored key with another secret or fewer scopes, or of a revoked one."""


class KeyBindingError(MeteringError):
    """The key cannot be bound to this customer or source, or its expiry is not ahead."""


class KeyNotActiveError(MeteringError):
    """The key is revoked or expired, so it cannot be rotated."""


class InvalidOverlapError(MeteringError):
    """The old secret of a rotated key cannot be accepted for so long."""


class ScopeExceededError(MeteringError):
    """A key may neither give nor take over scopes that it does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """The terms of a new key; `scopes` only with role custom, `source` only for keys that post events."""

    role: Role
    name: str
    scopes: Sequence[str] = ()
    customer_id: str | None = None
    source: str | None = None
    expires_at: datetime | None = None


def generate_secret(key_id: str | None = None) -> KeySecret:
    """A new random secret, of a key that exists or of a new one."""
    return KeySecret(key_id or secrets.token_hex(6), secrets.token_hex(24))


def issue_key(
    *, engine: Engine, new: NewKey, by: Author, now: datetime, within: frozenset[Scope] = frozenset(Scope)
) -> tuple[Key, KeySecret]:
    """Store a new key, with no scope that is not `within`; its secret cannot be shown again.

    Raises:
        InvalidScopeError: a scope is unknown, or the role has its own.
        KeyBindingError: the key cannot be bound like this, or its expiry is not ahead.
        ScopeExceededError: it would have a scope that is not `within`.
    """
    secret = generate_secret()
    key = _key(new, secret.key_id, now)
    _check_within(key, within)
    with transaction(engine) as connection:
        _add(connection, key, secret, by, now)
    return key, secret


def create_key(
    *, engine: Engine, role: Role, name: str, customer_id: str | None, now: datetime, by: Author = "metering"
) -> KeySecret:
    """`issue_key` for a key that has nothing but a role, and perhaps a customer; returns its secret."""
    new = NewKey(role=role, name=name, customer_id=customer_id)
    return issue_key(engine=engine, new=new, by=by, now=now)[1]


def rotate_key(
    *,
    engine: Engine,
    key_id: str,
    overlap: timedelta,
    by: Author,
    now: datetime,
    within: frozenset[Scope] = frozenset(Scope),
) -> tuple[Key, KeySecret]:
    """Give a key a new secret; the old one, and the sessions of the key, last for `overlap` more.

    A second rotation within the overlap ends the oldest secret at once.

    Raises:
        UnknownKeyError: no key has this id.
        InvalidOverlapError: the overlap is longer than 30 days.
        KeyNotActiveError: the key is revoked or expired.
        ScopeExceededError: the key has a scope that is not `within`.
    """
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise InvalidOverlapError(f"overlap_hours: expected 0 to {MAX_OVERLAP // timedelta(hours=1)}")
    secret, ends_at = generate_secret(key_id), now + overlap
    with transaction(engine) as connection:
        key = lock_key(connection, key_id=key_id)
        _check_within(key, within)
        if (state := key.state(now)) is not KeyState.ACTIVE:
            raise KeyNotActiveError(f"key {key_id!r} is {state.value}: create a new one")
        before = _state(connection, key)
        store_secret(connection, secret, old_ends_at=ends_at)
        end_sessions_with_secret(connection, key_id=key_id, ends_at=ends_at)
        rotated = replace(key, old_secret_ends_at=ends_at)
        after = {**_state(connection, rotated), "old_secret_ends_at": ends_at}
        _log(connection, "rotate", rotated, by, now, before=before, after=after)
    return rotated, secret


def revoke_key(
    *, engine: Engine, key_id: str, by: Author, now: datetime, within: frozenset[Scope] = frozenset(Scope)
) -> None:
    """Revoke a key: it is refused from now on, and its sessions have ended. Revoking it again changes nothing.

    Raises:
        UnknownKeyError: no key has this id.
        ScopeExceededError: the key has a scope that is not `within`.
    """
    with transaction(engine) as connection:
        key = lock_key(connection, key_id=key_id)
        _check_within(key, within)
        if key.revoked_at is not None:
            return
        before = _state(connection, key)
        mark_revoked(connection, key_id=key_id, now=now)
        revoked = replace(key, revoked_at=now)
        _log(connection, "revoke", revoked, by, now, before=before, after=_state(connection, revoked))


def limit_key(
    *,
    engine: Engine,
    key_id: str,
    changes: Mapping[str, int | None],
    by: Author,
    now: datetime,
    within: frozenset[Scope] = frozenset(Scope),
) -> Key:
    """Change limits of a key, named as in `KeyLimits`; None removes one. Those not named stay as they are.

    Raises:
        UnknownKeyError: no key has this id.
        ScopeExceededError: the key has a scope that is not `within`.
    """
    with transaction(engine) as connection:
        key = lock_key(connection, key_id=key_id)
        _check_within(key, within)
        limits = replace(key.limits, **changes)
        state = _state(connection, key)
        store_limits(connection, key_id=key_id, limits=limits)
        before, after = {**state, **asdict(key.limits)}, {**state, **asdict(limits)}
        _log(connection, "limit", key, by, now, before=before, after=after)
    return replace(key, limits=limits)


def ensure_admin_key(
    *, engine: Engine, configured: str | None, now: datetime, by: Author = "metering"
) -> KeySecret | None:
    """Store the configured admin key; without one, generate a key if there is no admin key, and return it.

    Raises:
        InvalidKeyError: the configured key does not have the form of a key.
        KeyIdTakenError: its id belongs to another key, or to a revoked one.
    """
    with transaction(engine) as connection:
        if configured is not None:
            _store_configured(connection, parse_secret(configured), Role.ADMIN, "METERING_ADMIN_KEY", by, now)
            return None
        if has_admin_key(connection, now=now):
            return None
        secret = generate_secret()
        new = NewKey(role=Role.ADMIN, name="first admin key")
        _add(connection, _key(new, secret.key_id, now), secret, by, now)
        return secret


def ensure_ingest_key(*, engine: Engine, configured: str, now: datetime, by: Author = "metering") -> None:
    """Store the key of the gateway, with role ingest, unless it is stored already.

    Raises:
        InvalidKeyError: it does not have the form of a key.
        KeyIdTakenError: its id belongs to another key, to a revoked one, or to one that may not post events.
    """
    variable = "METERING_GATEWAY_INGEST_KEY"
    with transaction(engine) as connection:
        _store_configured(connection, parse_secret(configured), Role.INGEST, variable, by, now)


def _store_configured(
    connection: Connection, secret: KeySecret, role: Role, variable: str, by: Author, now: datetime
) -> None:
    key = _key(NewKey(role=role, name=variable), secret.key_id, now)
    if _add(connection, key, secret, by, now):
        return
    known = authenticate(connection, secret, now=now)
    if known is None or not key.scopes <= known.key.scopes:
        raise KeyIdTakenError(
            f"{variable}: the id {secret.key_id!r} belongs to a key with another secret or fewer scopes, or to a "
            "revoked one: choose another id"
        )


def _key(new: NewKey, key_id: str, now: datetime) -> Key:
    listed = parse_scopes(new.scopes, role=new.role)
    key = Key(
        key_id=key_id,
        role=new.role,
        listed=None if listed is None else tuple(each.value for each in listed),
        customer_id=new.customer_id,
        source=new.source,
        name=new.name,
        created_at=now,
        expires_at=new.expires_at,
        revoked_at=None,
        last_used_at=None,
        old_secret_ends_at=None,
    )
    _check_bindings(key, listed or (), now)
    return key


def _check_bindings(key: Key, listed: Sequence[Scope], now: datetime) -> None:
    if key.customer_id is not None and key.role is Role.ADMIN:
        raise KeyBindingError("customer: a key with role admin cannot be bound to a customer")
    if key.customer_id is not None and (beyond := [each for each in listed if each not in OF_ONE_CUSTOMER]):
        raise KeyBindingError(f"customer: the scope {beyond[0]} is not about one customer")
    if key.source is not None and (key.role is Role.ADMIN or Scope.EVENTS_WRITE not in key.scopes):
        raise KeyBindingError(
            "source: only a key with role ingest, or a custom one with events:write, can be bound to a source"
        )
    if key.source is not None and Scope.KEYS_WRITE in key.scopes:
        raise KeyBindingError("source: a key with keys:write could make itself one without a source")
    if key.expires_at is not None and key.expires_at <= now:
        raise KeyBindingError(f"expires_at: expected a time that is ahead, got {key.expires_at.isoformat()}")


def _check_within(key: Key, within: frozenset[Scope]) -> None:
    if beyond := sorted(key.scopes - within):
        raise ScopeExceededError(f"the key has the scope {beyond[0]}, which the calling key does not have")


def _add(connection: Connection, key: Key, secret: KeySecret, by: Author, now: datetime) -> bool:
    is_new = add_key(connection, key, secret=secret)
    if is_new:
        _log(connection, "create", key, by, now, before=None, after=_state(connection, key))
    return is_new


def _state(connection: Connection, key: Key) -> State:
    """A key as the audit log has it. `secret` tells one secret from another, and is not the secret."""
    return {
        "name": key.name,
        "role": key.role,
        "scopes": key.listed,
        "customer_id": key.customer_id,
        "source": key.source,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "secret": secret_mark(connection, key_id=key.key_id),
    }


def _log(
    connection: Connection,
    action: str,
    key: Key,
    by: Author,
    now: datetime,
    *,
    before: State | None,
    after: State,
) -> None:
    log_action(
        connection, by=by, now=now, kind="key", action=action, subject=key.key_id, before=before, after=after
    )

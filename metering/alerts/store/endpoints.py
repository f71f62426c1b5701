"""SQL that writes webhook endpoints, and the secrets that sign messages to them.

Each signature needs the secret itself, so it is stored in plain text. Only the service's role may read it
(docs/decisions/0017-how-webhook-secrets-are-kept.md).
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, text

from metering.alerts.signing import SECRET_BYTES, secret_text
from metering.core.errors import MeteringError
from metering.db.locks import Lock, take


class EndpointState(StrEnum):
    """State of an endpoint. Disabled: it answered 410, or failed for too long. Off: a person disabled it."""

    OK = "ok"
    FAILING = "failing"
    DISABLED = "disabled"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint for messages of `types`, or of all types when None; `failing_since` is None while it answers."""

    endpoint_id: str
    url: str
    description: str
    types: Sequence[str] | None
    created_by: str
    created_at: datetime
    changed_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None
    last_problem: str | None
    delivered_at: datetime | None

    @property
    def state(self) -> EndpointState:
        """State of the endpoint."""
        if self.disabled_at is None:
            return EndpointState.OK if self.failing_since is None else EndpointState.FAILING
        return EndpointState.OFF if self.failing_since is None else EndpointState.DISABLED


ENDPOINT_ROW = """
    e.endpoint_id, e.url, e.description, e.types, e.created_by, e.created_at, e.changed_at, e.disabled_at,
    e.disabled_reason, e.failing_since, e.last_problem, e.delivered_at
"""


def endpoint_of_row(row: Any) -> Endpoint:
    """The endpoint in a row of `ENDPOINT_ROW`."""
    return Endpoint(**row._mapping)


class UnknownEndpointError(MeteringError):
    """There is no such endpoint."""


_COUNT = text("SELECT count(*) FROM webhook_endpoints WHERE deleted_at IS NULL")


def count_endpoints(connection: Connection) -> int:
    """The number of endpoints; blocks adding others until this commits."""
    take(connection, Lock.NEW_ENDPOINT)
    count: int = connection.execute(_COUNT).scalar_one()
    return count


_ADD = text(
    """
    INSERT INTO webhook_endpoints (endpoint_id, url, description, types, created_by, created_at, changed_at,
        disabled_at, disabled_reason, failing_since, last_problem, delivered_at)
    VALUES (:endpoint_id, :url, :description, CAST(:types AS text[]), :created_by, :created_at, :changed_at,
        :disabled_at, :disabled_reason, :failing_since, :last_problem, :delivered_at)
    """
)


def add_endpoint(connection: Connection, endpoint: Endpoint) -> str:
    """Store a new endpoint; returns its secret, which is not shown again."""
    connection.execute(_ADD, _parameters(endpoint))
    return _add_secret(connection, endpoint.endpoint_id, generation=1, now=endpoint.created_at)


_ONE = text(
    f"SELECT {ENDPOINT_ROW} FROM webhook_endpoints e WHERE e.endpoint_id = :endpoint_id AND e.deleted_at IS NULL"
)
_ONE_LOCKED = text(f"{_ONE.text} FOR NO KEY UPDATE")


def get_endpoint(connection: Connection, *, endpoint_id: str) -> Endpoint:
    """An endpoint.

    Raises:
        UnknownEndpointError: there is no such endpoint.
    """
    return _found(connection.execute(_ONE, {"endpoint_id": endpoint_id}).first(), endpoint_id)


def lock_endpoint(connection: Connection, *, endpoint_id: str) -> Endpoint:
    """An endpoint, locked against changes until this commits; deliveries to it can still be added.

    Raises:
        UnknownEndpointError: there is no such endpoint.
    """
    return _found(connection.execute(_ONE_LOCKED, {"endpoint_id": endpoint_id}).first(), endpoint_id)


def _found(row: object, endpoint_id: str) -> Endpoint:
    if row is None:
        raise UnknownEndpointError(f"there is no webhook endpoint {endpoint_id!r}")
    return endpoint_of_row(row)


_CHANGE = text(
    """
    UPDATE webhook_endpoints SET url = :url, description = :description, types = CAST(:types AS text[]),
        changed_at = :changed_at, disabled_at = :disabled_at, disabled_reason = :disabled_reason,
        failing_since = :failing_since, last_problem = :last_problem, delivered_at = :delivered_at
    WHERE endpoint_id = :endpoint_id
    """
)


def store_endpoint(connection: Connection, endpoint: Endpoint) -> None:
    """Store the fields of an endpoint that can change."""
    connection.execute(_CHANGE, _parameters(endpoint))


_DELETE_SECRETS = text(
    "DELETE FROM webhook_secrets"
    " WHERE endpoint_id = :endpoint_id AND (CAST(:older_than AS integer) IS NULL OR generation < :older_than)"
)
_MARK_DELETED = text("UPDATE webhook_endpoints SET deleted_at = :now WHERE endpoint_id = :endpoint_id")


def mark_endpoint_deleted(connection: Connection, *, endpoint_id: str, now: datetime) -> None:
    """Mark an endpoint as deleted and remove its secrets; its deliveries are kept."""
    connection.execute(_DELETE_SECRETS, {"endpoint_id": endpoint_id, "older_than": None})
    connection.execute(_MARK_DELETED, {"endpoint_id": endpoint_id, "now": now})


def _parameters(endpoint: Endpoint) -> dict[str, object]:
    return {
        "endpoint_id": endpoint.endpoint_id,
        "url": endpoint.url,
        "description": endpoint.description,
        "types": list(endpoint.types) if endpoint.types is not None else None,
        "created_by": endpoint.created_by,
        "created_at": endpoint.created_at,
        "changed_at": endpoint.changed_at,
        "disabled_at": endpoint.disabled_at,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": endpoint.failing_since,
        "last_problem": endpoint.last_problem,
        "delivered_at": endpoint.delivered_at,
    }


_NEWEST = text("SELECT max(generation) FROM webhook_secrets WHERE endpoint_id = :endpoint_id")
_END_SECRETS = text("UPDATE webhook_secrets SET ends_at = :ends_at WHERE endpoint_id = :endpoint_id")


def rotate_secret(connection: Connection, *, endpoint_id: str, old_ends_at: datetime, now: datetime) -> str:
    """Add a new secret and return it; the previous one also signs until `old_ends_at`, older ones are removed."""
    newest: int = connection.execute(_NEWEST, {"endpoint_id": endpoint_id}).scalar_one()
    connection.execute(_DELETE_SECRETS, {"endpoint_id": endpoint_id, "older_than": newest})
    connection.execute(_END_SECRETS, {"endpoint_id": endpoint_id, "ends_at": old_ends_at})
    return _add_secret(connection, endpoint_id, generation=newest + 1, now=now)


_ADD_SECRET = text(
    """
    INSERT INTO webhook_secrets (endpoint_id, generation, secret, created_at)
    VALUES (:endpoint_id, :generation, :secret, :now)
    """
)


def _add_secret(connection: Connection, endpoint_id: str, *, generation: int, now: datetime) -> str:
    secret = secret_text(secrets.token_bytes(SECRET_BYTES))
    parameters = {"endpoint_id": endpoint_id, "generation": generation, "secret": secret, "now": now}
    connection.execute(_ADD_SECRET, parameters)
    return secret


_SIGNING = text(
    """
    SELECT secret FROM webhook_secrets
    WHERE endpoint_id = :endpoint_id AND (ends_at IS NULL OR ends_at > :now) ORDER BY generation DESC
    """
)


def signing_secrets(connection: Connection, *, endpoint_id: str, now: datetime) -> Sequence[str]:
    """The secrets that sign now: the newest, and the previous one until it ends."""
    return connection.execute(_SIGNING, {"endpoint_id": endpoint_id, "now": now}).scalars().all()


_PRUNE = text("DELETE FROM webhook_secrets WHERE ends_at <= :now")


def prune_secrets(connection: Connection, *, now: datetime) -> None:
    """Remove the secrets that have ended."""
    connection.execute(_PRUNE, {"now": now})

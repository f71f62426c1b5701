"""Endpoints that messages go to, and the secrets that sign what goes there.

A secret has to be had again for each signature, so it is stored as it is; only the service's role may read it
(docs/decisions/0017-how-webhook-secrets-are-kept.md).
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text, update

from metering.alerts.signing import SECRET_BYTES, secret_text
from metering.core.errors import MeteringError
from metering.db.tables import webhook_endpoints, webhook_secrets


class EndpointState(StrEnum):
    """How an endpoint does. Disabled: nothing could be delivered for too long. Off: a person disabled it."""

    OK = "ok"
    FAILING = "failing"
    DISABLED = "disabled"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where messages go. `types` narrows them down, None takes all; `failing_since` is None while it answers."""

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
        """How it does."""
        if self.disabled_at is None:
            return EndpointState.OK if self.failing_since is None else EndpointState.FAILING
        return EndpointState.OFF if self.failing_since is None else EndpointState.DISABLED


ENDPOINT_ROW = """
    e.endpoint_id, e.url, e.description, e.types, e.created_by, e.created_at, e.changed_at, e.disabled_at,
    e.disabled_reason, e.failing_since, e.last_problem, e.delivered_at
"""


def endpoint_of_row(row: Any) -> Endpoint:
    """The endpoint that a row with `ENDPOINT_ROW` holds."""
    return Endpoint(**row._mapping)


# Any number: it only has to be the same in every process that adds endpoints.
_LOCK = 5_206_841_181


class UnknownEndpointError(MeteringError):
    """There is no such endpoint."""


_COUNT = text("SELECT count(*) FROM webhook_endpoints WHERE deleted_at IS NULL")


def count_endpoints(connection: Connection) -> int:
    """How many there are; nobody adds one until this commits."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    count: int = connection.execute(_COUNT).scalar_one()
    return count


def add_endpoint(connection: Connection, endpoint: Endpoint) -> str:
    """Store a new endpoint; returns its secret, which is told only now."""
    connection.execute(
        insert(webhook_endpoints).values(
            endpoint_id=endpoint.endpoint_id,
            created_by=endpoint.created_by,
            created_at=endpoint.created_at,
            **_changeable(endpoint),
        )
    )
    return _add_secret(connection, endpoint.endpoint_id, generation=1, now=endpoint.created_at)


_ONE = text(
    f"SELECT {ENDPOINT_ROW} FROM webhook_endpoints e WHERE e.endpoint_id = :endpoint_id AND e.deleted_at IS NULL"
)
_ONE_LOCKED = text(f"{_ONE.text} FOR NO KEY UPDATE")


def get_endpoint(connection: Connection, *, endpoint_id: str) -> Endpoint:
    """An endpoint.

    Raises:
        UnknownEndpointError: there is none.
    """
    return _found(connection.execute(_ONE, {"endpoint_id": endpoint_id}).first(), endpoint_id)


def lock_endpoint(connection: Connection, *, endpoint_id: str) -> Endpoint:
    """An endpoint that nobody else changes until this commits; deliveries can be added meanwhile.

    Raises:
        UnknownEndpointError: there is none.
    """
    return _found(connection.execute(_ONE_LOCKED, {"endpoint_id": endpoint_id}).first(), endpoint_id)


def _found(row: object, endpoint_id: str) -> Endpoint:
    if row is None:
        raise UnknownEndpointError(f"there is no webhook endpoint {endpoint_id!r}")
    return endpoint_of_row(row)


def store_endpoint(connection: Connection, endpoint: Endpoint) -> None:
    """Store what of an endpoint can change."""
    connection.execute(
        update(webhook_endpoints)
        .where(webhook_endpoints.c.endpoint_id == endpoint.endpoint_id)
        .values(**_changeable(endpoint))
    )


def mark_endpoint_deleted(connection: Connection, *, endpoint_id: str, now: datetime) -> None:
    """End an endpoint and forget its secrets; its deliveries are kept."""
    connection.execute(delete(webhook_secrets).where(webhook_secrets.c.endpoint_id == endpoint_id))
    connection.execute(
        update(webhook_endpoints).where(webhook_endpoints.c.endpoint_id == endpoint_id).values(deleted_at=now)
    )


def _changeable(endpoint: Endpoint) -> dict[str, object]:
    return {
        "url": endpoint.url,
        "description": endpoint.description,
        "types": list(endpoint.types) if endpoint.types is not None else None,
        "changed_at": endpoint.changed_at,
        "disabled_at": endpoint.disabled_at,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": endpoint.failing_since,
        "last_problem": endpoint.last_problem,
        "delivered_at": endpoint.delivered_at,
    }


_NEWEST = text("SELECT max(generation) FROM webhook_secrets WHERE endpoint_id = :endpoint_id")


def rotate_secret(connection: Connection, *, endpoint_id: str, old_ends_at: datetime, now: datetime) -> str:
    """Add a new secret and return it; the one before it signs as well until `old_ends_at`, older ones no more."""
    newest: int = connection.execute(_NEWEST, {"endpoint_id": endpoint_id}).scalar_one()
    of_endpoint = webhook_secrets.c.endpoint_id == endpoint_id
    connection.execute(delete(webhook_secrets).where(of_endpoint, webhook_secrets.c.generation < newest))
    connection.execute(update(webhook_secrets).where(of_endpoint).values(ends_at=old_ends_at))
    return _add_secret(connection, endpoint_id, generation=newest + 1, now=now)


def _add_secret(connection: Connection, endpoint_id: str, *, generation: int, now: datetime) -> str:
    secret = secret_text(secrets.token_bytes(SECRET_BYTES))
    connection.execute(
        insert(webhook_secrets).values(
            endpoint_id=endpoint_id, generation=generation, secret=secret, created_at=now
        )
    )
    return secret


def signing_secrets(connection: Connection, *, endpoint_id: str, now: datetime) -> Sequence[str]:
    """The secrets that sign now: the newest, and the one before it while it has not ended."""
    columns = webhook_secrets.c
    query = (
        select(columns.secret)
        .where(columns.endpoint_id == endpoint_id, (columns.ends_at.is_(None)) | (columns.ends_at > now))
        .order_by(columns.generation.desc())
    )
    return connection.execute(query).scalars().all()


_PRUNE = text("DELETE FROM webhook_secrets WHERE ends_at <= :now")


def prune_secrets(connection: Connection, *, now: datetime) -> None:
    """Remove those that have ended."""
    connection.execute(_PRUNE, {"now": now})

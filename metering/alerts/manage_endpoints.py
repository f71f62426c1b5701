"""Create, change, enable and delete webhook endpoints, and rotate their secrets. A secret is shown once."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Engine

from metering.access.actors import Author
from metering.access.store.audit_log import State, log_action
from metering.alerts.addresses import parse_url
from metering.alerts.alerts import AlertKind
from metering.alerts.budget_messages import BUDGET_EXHAUSTED, HOLD_REFUSED
from metering.alerts.store.endpoints import (
    Endpoint,
    add_endpoint,
    count_endpoints,
    lock_endpoint,
    mark_endpoint_deleted,
    rotate_secret,
    store_endpoint,
)
from metering.core.errors import MeteringError
from metering.db.engine import transaction

# Every message goes to every endpoint that takes its type.
MAX_ENDPOINTS = 20
# The message types that an endpoint can subscribe to.
TYPES = (*(kind.message_type for kind in AlertKind), BUDGET_EXHAUSTED, HOLD_REFUSED)
MAX_OVERLAP = timedelta(days=7)
MAX_DESCRIPTION = 256

_log = partial(log_action, kind="webhook_endpoint")


class InvalidEndpointError(MeteringError):
    """A field of an endpoint is invalid; the message names it."""


class TooManyEndpointsError(MeteringError):
    """The limit on the number of endpoints is reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChanges:
    """Changes to an endpoint; None keeps a value, and empty `types` subscribes to all types."""

    url: str | None = None
    description: str | None = None
    types: Sequence[str] | None = None
    enabled: bool | None = None


def create_endpoint(
    *,
    engine: Engine,
    url: str,
    description: str,
    types: Sequence[str],
    allow_private: bool,
    created_by: Author,
    now: datetime,
) -> tuple[Endpoint, str]:
    """Store a new endpoint for these message types, or for all types when empty; returns it with its secret.

    Raises:
        InvalidUrlError: the URL is not allowed.
        InvalidEndpointError: a type is unknown, or the description is too long.
        TooManyEndpointsError: the limit on the number of endpoints is reached.
    """
    parse_url(url, allow_private=allow_private)
    _check_description(description)
    endpoint = Endpoint(
        endpoint_id=f"whe_{secrets.token_hex(8)}",
        url=url,
        description=description,
        types=_valid_types(types),
        created_by=str(created_by),
        created_at=now,
        changed_at=now,
        disabled_at=None,
        disabled_reason=None,
        failing_since=None,
        last_problem=None,
        delivered_at=None,
    )
    with transaction(engine) as connection:
        if count_endpoints(connection) >= MAX_ENDPOINTS:
            raise TooManyEndpointsError(f"there are already {MAX_ENDPOINTS} webhook endpoints: delete one")
        secret = add_endpoint(connection, endpoint)
        _log(
            connection,
            action="create",
            subject=endpoint.endpoint_id,
            by=created_by,
            now=now,
            after=_state(endpoint),
        )
    return endpoint, secret


def change_endpoint(
    *,
    engine: Engine,
    endpoint_id: str,
    changes: EndpointChanges,
    allow_private: bool,
    changed_by: Author,
    now: datetime,
) -> Endpoint:
    """Change an endpoint. Enabling it clears its failures; deliveries skipped before that can be replayed.

    Raises:
        UnknownEndpointError, InvalidUrlError, InvalidEndpointError.
    """
    if changes.url is not None:
        parse_url(changes.url, allow_private=allow_private)
    _check_description(changes.description or "")
    with transaction(engine) as connection:
        endpoint = lock_endpoint(connection, endpoint_id=endpoint_id)
        changed = replace(
            endpoint,
            url=endpoint.url if changes.url is None else changes.url,
            description=endpoint.description if changes.description is None else changes.description,
            types=endpoint.types if changes.types is None else _valid_types(changes.types),
            changed_at=now,
        )
        if changes.enabled is True:
            changed = replace(
                changed, disabled_at=None, disabled_reason=None, failing_since=None, last_problem=None
            )
        elif changes.enabled is False and endpoint.disabled_at is None:
            reason = f"disabled by {changed_by}"
            changed = replace(changed, disabled_at=now, disabled_reason=reason, failing_since=None)
        store_endpoint(connection, changed)
        _log(
            connection,
            action="change",
            subject=endpoint_id,
            by=changed_by,
            now=now,
            before=_state(endpoint),
            after=_state(changed),
        )
    return changed


def delete_endpoint(*, engine: Engine, endpoint_id: str, now: datetime, by: Author = "metering") -> None:
    """Delete an endpoint and its secrets.

    Raises:
        UnknownEndpointError: there is no such endpoint.
    """
    with transaction(engine) as connection:
        endpoint = lock_endpoint(connection, endpoint_id=endpoint_id)
        mark_endpoint_deleted(connection, endpoint_id=endpoint_id, now=now)
        _log(connection, action="delete", subject=endpoint_id, by=by, now=now, before=_state(endpoint))


def rotate_endpoint_secret(
    *, engine: Engine, endpoint_id: str, overlap: timedelta, now: datetime, by: Author = "metering"
) -> str:
    """Give an endpoint a new secret and return it; during `overlap` messages are also signed with the old one.

    Raises:
        UnknownEndpointError: there is no such endpoint.
        InvalidEndpointError: the overlap is longer than a week.
    """
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise InvalidEndpointError(f"overlap_hours: expected 0 to {MAX_OVERLAP // timedelta(hours=1)}")
    with transaction(engine) as connection:
        lock_endpoint(connection, endpoint_id=endpoint_id)
        secret = rotate_secret(connection, endpoint_id=endpoint_id, old_ends_at=now + overlap, now=now)
        after = {"old_secret_ends_at": now + overlap}
        _log(connection, action="rotate-secret", subject=endpoint_id, by=by, now=now, after=after)
    return secret


def _state(endpoint: Endpoint) -> State:
    """An endpoint as the audit log has it, without its secrets."""
    return {
        "url": endpoint.url,
        "description": endpoint.description,
        "types": endpoint.types,
        "enabled": endpoint.disabled_at is None,
    }


def _check_description(description: str) -> None:
    if len(description) > MAX_DESCRIPTION:
        raise InvalidEndpointError(f"description: expected up to {MAX_DESCRIPTION} characters")


def _valid_types(types: Sequence[str]) -> Sequence[str] | None:
    for type in types:
        if type not in TYPES:
            raise InvalidEndpointError(
                f"types: expected some of {', '.join(TYPES)}, or an empty list for all; got {type!r}"
            )
    return sorted(set(types)) or None

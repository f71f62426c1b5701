"""Webhook endpoints: made, changed, enabled again, ended; their secrets rotated. A secret is told once."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Engine

from metering.alerts.addresses import parse_url
from metering.alerts.alerts import AlertKind
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

# Every message goes to each of them.
MAX_ENDPOINTS = 20
# What an endpoint can narrow its messages down to.
TYPES = tuple(kind.message_type for kind in AlertKind)
MAX_OVERLAP = timedelta(days=7)
MAX_DESCRIPTION = 256


class InvalidEndpointError(MeteringError):
    """What is asked of an endpoint does not make sense; the message names the field."""


class TooManyEndpointsError(MeteringError):
    """There are as many endpoints as there may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChanges:
    """What is to change of an endpoint; None leaves a value as it is, and no types at all takes all of them."""

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
    created_by: str,
    now: datetime,
) -> tuple[Endpoint, str]:
    """Store a new endpoint, for these types of messages or with none for all; returns its secret with it.

    Raises:
        InvalidUrlError: the URL may not be asked.
        InvalidEndpointError: a type is unknown, or the description too long.
        TooManyEndpointsError: there are as many as there may be.
    """
    parse_url(url, allow_private=allow_private)
    _check_description(description)
    endpoint = Endpoint(
        endpoint_id=f"whe_{secrets.token_hex(8)}",
        url=url,
        description=description,
        types=_checked(types),
        created_by=created_by,
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
            raise TooManyEndpointsError(f"there are {MAX_ENDPOINTS} webhook endpoints already: delete one")
        return endpoint, add_endpoint(connection, endpoint)


def change_endpoint(
    *,
    engine: Engine,
    endpoint_id: str,
    changes: EndpointChanges,
    allow_private: bool,
    changed_by: str,
    now: datetime,
) -> Endpoint:
    """Change an endpoint. Enabling it forgets its failures; what was skipped meanwhile can be replayed.

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
            types=endpoint.types if changes.types is None else _checked(changes.types),
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
    return changed


def delete_endpoint(*, engine: Engine, endpoint_id: str, now: datetime) -> None:
    """End an endpoint, and forget its secrets.

    Raises:
        UnknownEndpointError: there is none.
    """
    with transaction(engine) as connection:
        lock_endpoint(connection, endpoint_id=endpoint_id)
        mark_endpoint_deleted(connection, endpoint_id=endpoint_id, now=now)


def rotate_endpoint_secret(*, engine: Engine, endpoint_id: str, overlap: timedelta, now: datetime) -> str:
    """Give an endpoint a new secret and return it; for `overlap` the old one signs beside it.

    Raises:
        UnknownEndpointError: there is none.
        InvalidEndpointError: the overlap is longer than a week.
    """
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise InvalidEndpointError(f"overlap_hours: expected 0 to {MAX_OVERLAP // timedelta(hours=1)}")
    with transaction(engine) as connection:
        lock_endpoint(connection, endpoint_id=endpoint_id)
        return rotate_secret(connection, endpoint_id=endpoint_id, old_ends_at=now + overlap, now=now)


def _check_description(description: str) -> None:
    if len(description) > MAX_DESCRIPTION:
        raise InvalidEndpointError(f"description: expected up to {MAX_DESCRIPTION} characters")


def _checked(types: Sequence[str]) -> Sequence[str] | None:
    for type in types:
        if type not in TYPES:
            raise InvalidEndpointError(
                f"types: expected some of {', '.join(TYPES)}, or none for all; got {type!r}"
            )
    return sorted(set(types)) or None

"""`/v1/keys`: who may call. A key's secret is shown once, when it is created or rotated."""

from datetime import timedelta
from typing import Annotated

from fastapi import Path
from pydantic import Field
from typing_extensions import TypedDict

from metering.access.keys import Key as StoredKey
from metering.access.keys import KeyState, UnknownKeyError
from metering.access.manage_access import (
    InvalidOverlapError,
    KeyBindingError,
    KeyNotActiveError,
    NewKey,
    ScopeExceededError,
    issue_key,
    limit_key,
    revoke_key,
    rotate_key,
)
from metering.access.scopes import InvalidScopeError, Role, Scope
from metering.access.store.keys import list_keys
from metering.api.answers import Time, described, optional_time, time_text
from metering.api.auth import By, Caller, needs
from metering.api.paging import Page, whole_page
from metering.api.parameters import (
    WHOLE_NUMBER,
    Db,
    Id,
    Input,
    Name,
    TheService,
    Timestamp,
)
from metering.api.routes import raises, v1_router
from metering.core.clock import utc_now

router = v1_router("keys")

KeyPath = Annotated[Id, Path(description="The id of the key: the part between its underscores.", examples=["k1"])]

_NAME = Field(description="What the key is for.", examples=["Acme portal"])
_ROLE = Field(
    description="`ingest` posts events, `read` reads, `admin` does everything, `custom` has the listed scopes."
)
_SCOPES = Field(
    max_length=50, description="Only for role custom: what the key may do.", examples=[["totals:read"]]
)
_CUSTOMER = Field(
    description="Bind it to one customer: it sees, or posts events of, no other. Not for role admin.",
    examples=["acme"],
)
_SOURCE = Field(
    description="Only for keys that post events: it posts events of this `source` only.",
    examples=["/gateways/eu-1"],
)
_EXPIRES = Field(
    description="From this time on it is refused; RFC 3339 with an offset. Default: never.",
    examples=["2027-01-01T00:00:00Z"],
)


class LimitsOfKey(TypedDict):
    """What a key may do in each API process; null: the limit of the deployment, if it has one."""

    events_per_second: Annotated[int | None, described("Events a second, averaged.")]
    requests_per_second: Annotated[int | None, described("Requests a second, averaged.")]
    concurrent_requests: Annotated[int | None, described("Requests in progress at a time.")]


class Key(TypedDict):
    """A key, without its secret."""

    key_id: Annotated[str, described("The id of the key.", example="3f2a9c1e70b4")]
    name: Annotated[str, described("What the key is for.", example="Acme portal")]
    role: Annotated[Role, described("The group of its scopes.")]
    scopes: Annotated[list[Scope], described("What it may do.")]
    customer_id: Annotated[str | None, described("The only customer that it sees; null: all.", example="acme")]
    source: Annotated[str | None, described("The only source of its events; null: any.")]
    state: Annotated[KeyState, described("Whether it is accepted now.")]
    created_at: Annotated[Time, described("When it was created.")]
    expires_at: Annotated[Time | None, described("From when on it is refused; null: never.")]
    revoked_at: Annotated[Time | None, described("When it was revoked.")]
    last_used_at: Annotated[Time | None, described("When it was last used, to about a minute.")]
    old_secret_ends_at: Annotated[
        Time | None, described("Until when the secret before the last rotation is accepted; null: never rotated.")
    ]
    limits: Annotated[LimitsOfKey, described("Its own limits.")]


class KeyWithSecret(Key):
    """A key with its secret."""

    key: Annotated[str, described("The key with its secret. It is shown only in this answer.", example="mk_…")]


class KeyInput(Input):
    """A new key."""

    name: Annotated[Name, _NAME]
    role: Annotated[Role, _ROLE]
    scopes: Annotated[tuple[str, ...], _SCOPES] = ()
    customer_id: Annotated[Id | None, _CUSTOMER] = None
    source: Annotated[Name | None, _SOURCE] = None
    expires_at: Annotated[Timestamp | None, _EXPIRES] = None


class KeyRotationInput(Input):
    """How long the old secret stays valid."""

    overlap_hours: Annotated[
        int,
        Field(ge=0, le=720, description="Hours in which the old secret is accepted too. Use 0 if it has leaked."),
        WHOLE_NUMBER,
    ] = 24


_Limit = Annotated[int, Field(ge=1, le=999_999_999), WHOLE_NUMBER] | None


class KeyLimitsInput(Input):
    """All limits of a key, for each API process. One that is null or left out is the deployment's."""

    events_per_second: Annotated[_Limit, Field(description="Events a second, averaged.")] = None
    requests_per_second: Annotated[_Limit, Field(description="Requests a second, averaged.")] = None
    concurrent_requests: Annotated[_Limit, Field(description="Requests in progress at a time.")] = None


def key_shape(key: StoredKey) -> Key:
    """A key, without its secret."""
    return {
        "key_id": key.key_id,
        "name": key.name,
        "role": key.role,
        "scopes": sorted(key.scopes),
        "customer_id": key.customer_id,
        "source": key.source,
        "state": key.state(utc_now()),
        "created_at": time_text(key.created_at),
        "expires_at": optional_time(key.expires_at),
        "revoked_at": optional_time(key.revoked_at),
        "last_used_at": optional_time(key.last_used_at),
        "old_secret_ends_at": optional_time(key.old_secret_ends_at),
        "limits": {
            "events_per_second": key.limits.events_per_second,
            "requests_per_second": key.limits.requests_per_second,
            "concurrent_requests": key.limits.concurrent_requests,
        },
    }


@router.get("/keys", operation_id="listKeys", summary="List keys")
@needs(Scope.KEYS_READ)
def read_keys(connection: Db) -> Page[Key]:
    """All keys in one page, the oldest first, without their secrets."""
    return whole_page([key_shape(key) for key in list_keys(connection)])


@router.post("/keys", status_code=201, operation_id="createKey", summary="Create a key")
@needs(Scope.KEYS_WRITE)
@raises(InvalidScopeError, KeyBindingError, ScopeExceededError)
def write_key(given: KeyInput, caller: Caller, by: By, service: TheService) -> KeyWithSecret:
    """Create a key. It gets no scope that the calling key does not have. Only this answer shows its secret."""
    new = NewKey(
        role=given.role,
        name=given.name,
        scopes=given.scopes,
        customer_id=given.customer_id,
        source=given.source,
        expires_at=given.expires_at,
    )
    key, secret = issue_key(engine=service.engine, new=new, by=by, now=utc_now(), within=caller.scopes)
    return {**key_shape(key), "key": str(secret)}


@router.post("/keys/{key_id}/rotate", operation_id="rotateKey", summary="Rotate a key")
@needs(Scope.KEYS_WRITE)
@raises(UnknownKeyError, KeyNotActiveError, InvalidOverlapError, ScopeExceededError)
def rotate(
    key_id: KeyPath, caller: Caller, by: By, service: TheService, given: KeyRotationInput | None = None
) -> KeyWithSecret:
    """Give a key a new secret, under the same id. For a while the old one is accepted as well."""
    overlap = timedelta(hours=(given or KeyRotationInput()).overlap_hours)
    key, secret = rotate_key(
        engine=service.engine, key_id=key_id, overlap=overlap, by=by, now=utc_now(), within=caller.scopes
    )
    return {**key_shape(key), "key": str(secret)}


@router.put("/keys/{key_id}/limits", operation_id="putKeyLimits", summary="Set the limits of a key")
@needs(Scope.KEYS_WRITE)
@raises(UnknownKeyError, ScopeExceededError)
def limit(key_id: KeyPath, given: KeyLimitsInput, caller: Caller, by: By, service: TheService) -> Key:
    """Replace the limits of a key. All servers apply them within 5 seconds."""
    changes = given.model_dump()
    key = limit_key(
        engine=service.engine, key_id=key_id, changes=changes, by=by, now=utc_now(), within=caller.scopes
    )
    return key_shape(key)


@router.delete("/keys/{key_id}", status_code=204, operation_id="revokeKey", summary="Revoke a key")
@needs(Scope.KEYS_WRITE)
@raises(UnknownKeyError, ScopeExceededError)
def revoke(key_id: KeyPath, caller: Caller, by: By, service: TheService) -> None:
    """Revoke a key for good; all servers refuse it within 5 seconds. It stays in the list."""
    revoke_key(engine=service.engine, key_id=key_id, by=by, now=utc_now(), within=caller.scopes)

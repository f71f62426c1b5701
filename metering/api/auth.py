"""Who is calling: bearer keys, the scope that each route needs, and the customer that a key may be bound to.

A route declares its scope with `needs`, or with `open_to_all` that it needs no key. `routes.ApiRoute` refuses one
that declares neither.
"""

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from metering.access.actors import Actor, request_id_of
from metering.access.keys import InvalidKeyError, Key, parse_secret
from metering.access.scopes import Scope, roles_with
from metering.access.store.keys import authenticate, mark_used
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.db.engine import transaction

log = logging.getLogger(__name__)

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])

# A revoked key is refused everywhere after this long.
CACHE_SECONDS = 5.0
REFRESH_SECONDS = 2.5
_MAX_CACHED = 10_000


class UnauthorizedError(MeteringError):
    """The request has no key, or one that is unknown, expired or revoked."""


class ForbiddenError(MeteringError):
    """The key is valid, but its scopes or its customer do not allow this."""


@dataclass(slots=True)
class _Known:
    key: Key
    looked_up_at: float
    valid_until: float
    refreshing: bool = False


class Authenticator:
    """Looks up keys, and caches valid ones for a few seconds. `store_use` writes down which were used."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, _Known] = OrderedDict()
        self._used: set[str] = set()

    def key(self, authorization: str | None) -> Key:
        """The key of an Authorization header.

        Raises:
            UnauthorizedError: no key, or an unknown, expired or revoked one.
        """
        known = self._cached(authorization)
        return known.key if known is not None else self._look_up(authorization)

    async def key_async(self, authorization: str | None) -> Key:
        """`key`, without blocking the event loop.

        A key that is in use is looked up again before its cache entry expires: no request waits for the lookup.
        """
        known = self._cached(authorization)
        if known is None:
            return await run_in_threadpool(self.key, authorization)
        if not known.refreshing and monotonic() - known.looked_up_at > REFRESH_SECONDS:
            known.refreshing = True
            asyncio.get_running_loop().run_in_executor(None, self._refresh, authorization or "")
        return known.key

    def _cached(self, authorization: str | None) -> _Known | None:
        with self._lock:
            known = self._cache.get(authorization or "")
        return known if known and monotonic() < known.valid_until else None

    def store_use(self) -> None:
        """Store that the keys that were looked up since the last call were used. Call it at most once a minute."""
        with self._lock:
            used, self._used = self._used, set()
        if not used:
            return
        try:
            with transaction(self._engine) as connection:
                mark_used(connection, used, now=utc_now())
        except (MeteringError, SQLAlchemyError) as error:
            log.warning("last use of keys not stored", extra={"error": str(error).splitlines()[0]})

    def _refresh(self, authorization: str) -> None:
        try:
            self._look_up(authorization)
        except UnauthorizedError:
            with self._lock:
                self._cache.pop(authorization, None)
        except (MeteringError, SQLAlchemyError) as error:
            # The cached key stays valid until it expires; the next request then looks it up and fails.
            log.warning("key not refreshed, will retry", extra={"error": str(error).splitlines()[0]})

    def _look_up(self, authorization: str | None) -> Key:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthorizedError("send the header `Authorization: Bearer mk_<id>_<secret>`")
        try:
            secret = parse_secret(token.strip())
        except InvalidKeyError as error:
            raise UnauthorizedError(str(error)) from error
        looked_up_at, now = monotonic(), utc_now()
        with transaction(self._engine) as connection:
            found = authenticate(connection, secret, now=now)
        if found is None:
            raise UnauthorizedError("this key is unknown, expired or revoked")
        lasts = _seconds_until(found.ends_at, now)
        with self._lock:
            self._used.add(found.key.key_id)
            known = _Known(found.key, looked_up_at, valid_until=looked_up_at + min(CACHE_SECONDS, lasts))
            self._cache[authorization or ""] = known
            self._cache.move_to_end(authorization or "")
            while len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        return found.key


def _seconds_until(ends_at: datetime | None, now: datetime) -> float:
    return float("inf") if ends_at is None else (ends_at - now) / timedelta(seconds=1)


def needs(scope: Scope) -> Callable[[EndpointT], EndpointT]:
    """Declare the scope that a route needs of the caller's key."""

    def declare(endpoint: EndpointT) -> EndpointT:
        endpoint.scope = scope  # type: ignore[attr-defined]
        return endpoint

    return declare


def open_to_all(endpoint: EndpointT) -> EndpointT:
    """Declare that a route needs no key."""
    endpoint.scope = None  # type: ignore[attr-defined]
    return endpoint


def require_scope(key: Key, scope: Scope) -> None:
    """Refuse a key that does not have a scope.

    Raises:
        ForbiddenError: it has not; the message names the scope and the roles that have it.
    """
    if scope not in key.scopes:
        roles = " or ".join(roles_with(scope))
        raise ForbiddenError(f"this needs a key with scope {scope} (role {roles}); this one has role {key.role}")


def require_customer(key: Key, customer_id: str | None) -> str | None:
    """The customer that this key may see: the requested one, or the one that the key is bound to.

    Raises:
        ForbiddenError: it is bound to another customer.
    """
    if key.customer_id is None:
        return customer_id
    if customer_id not in (None, key.customer_id):
        raise ForbiddenError(f"this key reads only customer {key.customer_id!r}")
    return key.customer_id


# Only for the OpenAPI description (the "Authorize" button of /docs); `_caller` reads the header itself.
_scheme = HTTPBearer(
    auto_error=False,
    description="A key: `mk_<id>_<secret>`. Its role is `ingest`, `read`, `admin` or `custom`, a list of scopes.",
)


def _caller(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)] = None) -> Key:
    """The key of the request, which has the scope of the route."""
    authenticator: Authenticator = request.app.state.authenticator
    key = authenticator.key(request.headers.get("authorization"))
    require_scope(key, request.scope["route"].scope)
    return key


Caller = Annotated[Key, Depends(_caller)]


def _actor(request: Request, key: Caller) -> Actor:
    """Who changes something, for the audit log."""
    return Actor(
        name=f"key {key.key_id}",
        door="api",
        address=request.client.host if request.client else None,
        request_id=request_id_of(request.headers.get("x-request-id")),
    )


By = Annotated[Actor, Depends(_actor)]

"""Who is calling: bearer keys, the scope that each route needs, and the customer that a key may be bound to.

A route declares its scope with `needs`, or with `open_to_all` that it needs no key. `routes.ApiRoute` refuses one
that declares neither.
"""

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from time import monotonic
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from metering.access.actors import Actor
from metering.access.keys import InvalidKeyError, Key, KeySecret, parse_secret
from metering.access.scopes import Scope, roles_with
from metering.access.store.keys import Authenticated, authenticate_all, mark_used
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.core.request_id import current_request_id
from metering.db.engine import transaction

log = logging.getLogger(__name__)

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])

# A revoked key is refused everywhere after this long.
CACHE_SECONDS = 5.0
REFRESH_SECONDS = 2.5
_MAX_CACHED = 10_000
# Keys that are looked up in one query, and the pause after it. The first one does not wait.
_MAX_TOGETHER = 500
_PAUSE_SECONDS = 0.1


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
    """Looks up keys, and caches valid ones for a few seconds.

    It has an engine and a thread of its own, so that it answers whatever else runs. Keys that are not cached are
    looked up together, a few times a second: unknown keys wait for that, and cost no query each. `store_use` notes
    which were used.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, _Known] = OrderedDict()
        self._used: set[str] = set()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keys")
        self._asked: dict[KeySecret, asyncio.Future[Authenticated | None]] = {}
        self._looking: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def key(self, authorization: str | None) -> Key:
        """The key of an Authorization header.

        Raises:
            UnauthorizedError: no key, or an unknown, expired or revoked one.
        """
        known = self._cached(authorization)
        if known is not None:
            return known.key
        secret, looked_up_at = _secret_of(authorization), monotonic()
        return self._remember(authorization, self._find([secret])[0], looked_up_at)

    async def key_async(self, authorization: str | None) -> Key:
        """`key`, without blocking the event loop.

        A key that is in use is looked up again before its cache entry expires: no request waits for the lookup.
        """
        known = self._cached(authorization)
        if known is None:
            return await self._look_up(authorization)
        if not known.refreshing and monotonic() - known.looked_up_at > REFRESH_SECONDS:
            known.refreshing = True
            task = asyncio.create_task(self._refresh(authorization or ""))
            _background.add(task)
            task.add_done_callback(_background.discard)
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

    async def _refresh(self, authorization: str) -> None:
        try:
            await self._look_up(authorization)
        except UnauthorizedError:
            with self._lock:
                self._cache.pop(authorization, None)
        except (MeteringError, SQLAlchemyError) as error:
            # The cached key stays valid until it expires; the next request then looks it up and fails.
            log.warning("key not refreshed, will retry", extra={"error": str(error).splitlines()[0]})

    async def _look_up(self, authorization: str | None) -> Key:
        secret, looked_up_at = _secret_of(authorization), monotonic()
        found = self._asked.get(secret)
        if found is None:
            found = self._asked[secret] = asyncio.get_running_loop().create_future()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_up_asked(), name="key-lookups")
        return self._remember(authorization, await asyncio.shield(found), looked_up_at)

    async def _look_up_asked(self) -> None:
        loop = asyncio.get_running_loop()
        while self._asked:
            batch = dict(islice(self._asked.items(), _MAX_TOGETHER))
            for secret in batch:
                del self._asked[secret]
            try:
                found = await loop.run_in_executor(self._thread, self._find, list(batch))
            except Exception as error:  # noqa: BLE001 - each request that waits raises it
                _fail(batch.values(), error)
            else:
                for future, key in zip(batch.values(), found, strict=True):
                    if not future.done():
                        future.set_result(key)
            await asyncio.sleep(_PAUSE_SECONDS)

    def _find(self, secrets: Sequence[KeySecret]) -> list[Authenticated | None]:
        with transaction(self._engine) as connection:
            return authenticate_all(connection, secrets, now=utc_now())

    def _remember(self, authorization: str | None, found: Authenticated | None, looked_up_at: float) -> Key:
        if found is None:
            raise UnauthorizedError("this key is unknown, expired or revoked")
        lasts = _seconds_until(found.ends_at, utc_now())
        with self._lock:
            self._used.add(found.key.key_id)
            known = _Known(found.key, looked_up_at, valid_until=looked_up_at + min(CACHE_SECONDS, lasts))
            self._cache[authorization or ""] = known
            self._cache.move_to_end(authorization or "")
            while len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        return found.key


_background: set[asyncio.Task[None]] = set()


def _fail(futures: Iterable[asyncio.Future[Authenticated | None]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
            future.exception()  # a request that is gone does not fetch it


def _secret_of(authorization: str | None) -> KeySecret:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthorizedError("send the header `Authorization: Bearer mk_<id>_<secret>`")
    try:
        return parse_secret(token.strip())
    except InvalidKeyError as error:
        raise UnauthorizedError(str(error)) from error


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
        request_id=current_request_id(),
    )


By = Annotated[Actor, Depends(_actor)]

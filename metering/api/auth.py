"""Who is calling: bearer keys, their roles, and the customer that a read key may be bound to."""

import asyncio
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from metering.access.store.keys import InvalidKeyError, Key, Role, authenticate, parse_secret
from metering.core.errors import MeteringError
from metering.db.engine import transaction

log = logging.getLogger(__name__)

# A revoked key is refused everywhere after this long.
CACHE_SECONDS = 5.0
REFRESH_SECONDS = 2.5
_MAX_CACHED = 10_000


class UnauthorizedError(MeteringError):
    """The request has no key, or one that is unknown or revoked."""


class ForbiddenError(MeteringError):
    """The key is valid, but its role or its customer does not allow this."""


@dataclass(slots=True)
class _Known:
    key: Key
    looked_up_at: float
    refreshing: bool = False


class Authenticator:
    """Looks up keys, and caches valid ones for a few seconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, _Known] = OrderedDict()

    def key(self, authorization: str | None) -> Key:
        """The key of an Authorization header.

        Raises:
            UnauthorizedError: no key, or an unknown or revoked one.
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
        return known if known and monotonic() - known.looked_up_at < CACHE_SECONDS else None

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
        looked_up_at = monotonic()
        with transaction(self._engine) as connection:
            found = authenticate(connection, secret)
        if found is None:
            raise UnauthorizedError("this key is unknown or revoked")
        with self._lock:
            self._cache[authorization or ""] = _Known(found, looked_up_at)
            self._cache.move_to_end(authorization or "")
            while len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        return found


def require_ingest(key: Key) -> None:
    """Refuse a key that may not post events.

    Raises:
        ForbiddenError: its role is read.
    """
    if key.role not in (Role.INGEST, Role.ADMIN):
        raise ForbiddenError(f"posting events needs a key with role ingest; this one has role {key.role}")


def require_customer(key: Key, customer_id: str | None) -> str | None:
    """The customer that this key may read: the requested one, or the one that the key is bound to.

    Raises:
        ForbiddenError: it is bound to another customer.
    """
    if key.customer_id is None:
        return customer_id
    if customer_id not in (None, key.customer_id):
        raise ForbiddenError(f"this key reads only customer {key.customer_id!r}")
    return key.customer_id


# Only for the OpenAPI description (the "Authorize" button of /docs); `_reader` reads the header itself.
_scheme = HTTPBearer(
    auto_error=False, description="A key: `mk_<id>_<secret>`. Its role is `ingest`, `read` or `admin`."
)


def _any(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)] = None) -> Key:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator.key(request.headers.get("authorization"))


def _reader(key: Annotated[Key, Depends(_any)]) -> Key:
    if key.role not in (Role.READ, Role.ADMIN):
        raise ForbiddenError(f"reading needs a key with role read or admin; this one has role {key.role}")
    return key


def _admin(key: Annotated[Key, Depends(_reader)]) -> Key:
    if key.role is not Role.ADMIN:
        raise ForbiddenError(f"this needs a key with role admin; this one has role {key.role}")
    return key


# Also keys of gateways, which read what concerns them and no usage.
AnyKey = Annotated[Key, Depends(_any)]
Reader = Annotated[Key, Depends(_reader)]
Admin = Annotated[Key, Depends(_admin)]

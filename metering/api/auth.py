"""Who is calling: bearer keys, their roles, and the customer that a read key may be bound to."""

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from metering.access.store.keys import InvalidKeyError, Key, KeySecret, Role, authenticate_all, parse_secret
from metering.core.errors import MeteringError
from metering.db.engine import transaction

log = logging.getLogger(__name__)

# A revoked key is refused everywhere after this long.
CACHE_SECONDS = 5.0
REFRESH_SECONDS = 2.5
_MAX_CACHED = 10_000
# Keys that are looked up in one query, and the pause after it. The first one does not wait.
_MAX_TOGETHER = 500
_PAUSE_SECONDS = 0.1


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
    """Looks up keys, and caches valid ones for a few seconds.

    It has an engine and a thread of its own, so that it answers whatever else runs. Keys that are not cached are
    looked up together, a few times a second: unknown keys wait for that, and cost no query each.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, _Known] = OrderedDict()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keys")
        self._asked: dict[KeySecret, asyncio.Future[Key | None]] = {}
        self._looking: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def key(self, authorization: str | None) -> Key:
        """The key of an Authorization header.

        Raises:
            UnauthorizedError: no key, or an unknown or revoked one.
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
        return known if known and monotonic() - known.looked_up_at < CACHE_SECONDS else None

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

    def _find(self, secrets: Sequence[KeySecret]) -> list[Key | None]:
        with transaction(self._engine) as connection:
            return authenticate_all(connection, secrets)

    def _remember(self, authorization: str | None, found: Key | None, looked_up_at: float) -> Key:
        if found is None:
            raise UnauthorizedError("this key is unknown or revoked")
        with self._lock:
            self._cache[authorization or ""] = _Known(found, looked_up_at)
            self._cache.move_to_end(authorization or "")
            while len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        return found


_background: set[asyncio.Task[None]] = set()


def _fail(futures: Iterable[asyncio.Future[Key | None]], error: Exception) -> None:
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

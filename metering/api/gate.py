"""What every request passes before anything is read or computed for it: its key, its limits, and its turn.

A request without a valid key is answered before its body is read. A body is read whole, within a limit, before the
request has its turn, and the turn ends when the answer is ready: no slow sender or reader holds one.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from metering.access.keys import Key
from metering.access.scopes import Scope as KeyScope
from metering.api.auth import Authenticator, UnauthorizedError, require_scope
from metering.api.failures import Failures
from metering.api.key_limits import KeyLimiter, TooManyRequestsError
from metering.api.problems import METHOD_NOT_ALLOWED, PayloadTooLargeError, error_response, problem_response
from metering.api.shares import BusyError, Shares
from metering.core.errors import MeteringError
from metering.core.request_id import REQUEST_ID_HEADER, enter_request
from metering.dashboard.static_files import FILES
from metering.db.cancellation import Cancellation
from metering.server.database_watch import DatabaseWatch
from metering.streams.ingest.body import is_longer
from metering.streams.ingest.submission import KeyQueueFullError

# No body but that of ingest is nearly as large.
MAX_BODY_BYTES = 256 * 1024
# A form of the dashboard; a session may be missing.
MAX_FORM_BYTES = 32 * 1024
# Refused clients wait for their answer, so that asking again and again costs us little: a second on average, of
# different length, so that hundreds which were refused together do not come back together.
_REFUSAL_SECONDS = (0.5, 1.5)

_WEBHOOK = "/v1/stripe/webhook"
HOLDS_PATH = "/v1/holds"
_EXPORTS = ("/v1/exports/", "/dashboard/exports/")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)

Message = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the gate decides with."""

    authenticator: Authenticator
    keys: KeyLimiter
    shares: Shares
    watch: DatabaseWatch
    failures: Failures

    async def key_of_writer(self, authorization: str | None, *, needs: KeyScope) -> Key:
        """The key of a request that stores facts.

        Raises:
            DatabaseUnavailableError, UnsafeDatabaseError: nothing may be stored now.
            UnauthorizedError, ForbiddenError: the key is none, or does not have the scope.
        """
        self.watch.require_durable()
        key = await self.authenticator.key_async(authorization)
        require_scope(key, needs)
        return key


class ClientGoneError(Exception):
    """The client has left before its request was complete, or had its turn."""


class Gate:
    """Middleware: the outermost layer of the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = enter_request(Headers(scope=scope).get("x-request-id"))
        send = _with_headers(send, request_id)
        try:
            await self._pass(scope, receive, send)
        except ClientGoneError:
            return
        except MeteringError as error:
            await self._refuse(error, scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        limits: Limits = scope["app"].state.limits
        if path in scope["app"].state.ingest.doors:
            await _ingest(scope, receive, send)
        elif path == HOLDS_PATH and scope["method"] == "POST":
            await scope["app"].state.holds(scope, receive, send)
        elif path.startswith("/v1/") and path != _WEBHOOK:
            authorization = Headers(scope=scope).get("authorization")
            limits.watch.require_schema()
            key = await limits.authenticator.key_async(authorization)
            limits.keys.enter(key)
            try:
                body = await _read_body(scope, receive, most=MAX_BODY_BYTES)
                await _Turn(self._app, limits.shares, f"key {key.key_id}").run(scope, body, receive, send)
            finally:
                limits.keys.leave(key)
        elif path.startswith(FILES):
            await scope["app"].state.files(scope, receive, send)
        elif path.startswith("/dashboard/"):
            limits.watch.require_schema()
            body = await _read_body(scope, receive, most=MAX_FORM_BYTES)
            await _Turn(self._app, limits.shares, f"address {_address(scope)}").run(scope, body, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _refuse(self, error: MeteringError, scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(error, UnauthorizedError):
            failures: Failures = scope["app"].state.limits.failures
            await asyncio.sleep(failures.add(_address(scope)))
        elif isinstance(error, TooManyRequestsError | KeyQueueFullError | BusyError):
            await asyncio.sleep(random.uniform(*_REFUSAL_SECONDS))
        await error_response(error)(scope, receive, send)


async def _ingest(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "POST":
        await scope["app"].state.ingest(scope, receive, send)
        return
    response = problem_response(METHOD_NOT_ALLOWED, "this path allows POST")
    response.headers["allow"] = "POST"
    await response(scope, receive, send)


class _Turn:
    """One request that waits for its turn, runs, and is watched for its client's leaving."""

    def __init__(self, app: ASGIApp, shares: Shares, client: str) -> None:
        self._app = app
        self._shares = shares
        self._client = client
        self._has_turn, self._began = False, 0.0
        self._left = asyncio.Event()
        self._cancellation = Cancellation()

    async def run(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["cancellation"] = self._cancellation
        watcher = asyncio.create_task(self._watch(receive))
        try:
            # An export runs for minutes; how many may do so is limited where they are sent.
            if not scope["path"].startswith(_EXPORTS):
                await self._wait(watcher)
            await self._app(scope, self._replay(body), self._give_back_and(send))
        finally:
            self._give_back()
            watcher.cancel()

    async def _wait(self, watcher: asyncio.Task[None]) -> None:
        turn = asyncio.create_task(self._shares.take(self._client))
        try:
            await asyncio.wait({turn, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                raise ClientGoneError
            turn.result()
            self._has_turn, self._began = True, monotonic()
        finally:
            if not turn.done():
                turn.cancel()

    def _give_back(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._shares.end(self._client, seconds=monotonic() - self._began)

    def _give_back_and(self, send: Send) -> Callable[[Message], Awaitable[None]]:
        async def send_answer(message: Message) -> None:
            self._give_back()
            await send(message)

        return send_answer

    def _replay(self, body: bytes) -> Callable[[], Awaitable[Message]]:
        read = False

        async def receive() -> Message:
            nonlocal read
            if not read:
                read = True
                return {"type": "http.request", "body": body, "more_body": False}
            await self._left.wait()
            return {"type": "http.disconnect"}

        return receive

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._left.set()
        await asyncio.get_running_loop().run_in_executor(None, self._cancellation.cancel)


async def _read_body(scope: Scope, receive: Receive, *, most: int) -> bytes:
    headers = Headers(scope=scope)
    declared = headers.get("content-length", "0")
    if declared == "0" and "transfer-encoding" not in headers:
        return b""
    if is_longer(declared, most):
        raise PayloadTooLargeError(most)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > most:
            raise PayloadTooLargeError(most)
        if not message.get("more_body", False):
            return bytes(body)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _with_headers(send: Send, request_id: str) -> Send:
    """Every answer has its request's id; browsers may not guess its type, nor show it inside another page."""
    own = (*_HEADERS, (REQUEST_ID_HEADER.encode(), request_id.encode()))

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            names = {name for name, _ in headers}
            headers += [each for each in own if each[0] not in names]
            message = {**message, "headers": headers}
        await send(message)

    return send_with_headers

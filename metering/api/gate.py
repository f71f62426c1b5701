"""What every request passes before anything is read or computed for it: its key, its limits, and its turn.

A request without a valid key is answered before its body is read. A body is read whole, within a limit, before the
request has its turn, and the turn ends when the answer is ready: no slow sender or reader holds one.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from metering.access.keys import Key
from metering.access.scopes import Scope as KeyScope
from metering.api.auth import Authenticator, UnauthorizedError, require_scope
from metering.api.failures import Failures
from metering.api.incoming import ClientGoneError, Incoming
from metering.api.key_limits import KeyLimiter, TooManyRequestsError
from metering.api.problems import (
    METHOD_NOT_ALLOWED,
    PayloadTooLargeError,
    error_response,
    internal_error,
    problem_response,
)
from metering.api.shares import BusyError, Shares
from metering.core.errors import MeteringError
from metering.core.request_id import REQUEST_ID_HEADER, enter_request
from metering.dashboard.static_files import FILES
from metering.db.cancellation import Cancellation
from metering.db.engine import request_failure
from metering.server.database_watch import DatabaseWatch
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
_REQUEST_ID = REQUEST_ID_HEADER.encode()
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)

Message = MutableMapping[str, Any]
Header = tuple[bytes, bytes]
# Answers a request ahead of FastAPI.
Endpoint = Callable[[Incoming], Awaitable[Response]]

log = logging.getLogger(__name__)


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


class Gate:
    """An ASGI application around FastAPI's: it answers what it refuses, and what has no need of FastAPI."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._state = app.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Incoming(scope, receive)
        request_id = enter_request(request.header(b"x-request-id"))
        answering = _Answering(send, (*_HEADERS, (_REQUEST_ID, request_id.encode())))
        endpoint = self._endpoint(request)
        try:
            if endpoint is None:
                await self._pass(request, receive, answering)
                return
            answer = await endpoint(request)
        except ClientGoneError:
            return
        except MeteringError as error:
            answer = await self._refusal(error, request)
        except Exception as error:
            if answering.has_begun:
                raise
            answer = _failure(error, request)
        await answering.send_whole(answer)

    def _endpoint(self, request: Incoming) -> Endpoint | None:
        """What answers the request ahead of FastAPI."""
        if request.path in self._state.doors:
            endpoint: Endpoint = self._state.ingest if request.scope["method"] == "POST" else _only_posts
            return endpoint
        if request.path == HOLDS_PATH and request.scope["method"] == "POST":
            holds: Endpoint = self._state.holds
            return holds
        return None

    async def _pass(self, request: Incoming, receive: Receive, send: Send) -> None:
        limits: Limits = self._state.limits
        path, scope = request.path, request.scope
        if path.startswith("/v1/") and path != _WEBHOOK:
            limits.watch.require_schema()
            key = await limits.authenticator.key_async(request.header(b"authorization"))
            limits.keys.enter(key)
            try:
                body = await read_body(request)
                await _Turn(self._app, limits.shares, f"key {key.key_id}").run(scope, body, receive, send)
            finally:
                limits.keys.leave(key)
        elif path.startswith(FILES):
            await self._state.files(scope, receive, send)
        elif path.startswith("/dashboard/"):
            limits.watch.require_schema()
            body = await read_body(request, most=MAX_FORM_BYTES)
            await _Turn(self._app, limits.shares, f"address {request.address}").run(scope, body, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _refusal(self, error: MeteringError, request: Incoming) -> Response:
        if isinstance(error, UnauthorizedError):
            failures: Failures = self._state.limits.failures
            await asyncio.sleep(failures.add(request.address))
        elif isinstance(error, TooManyRequestsError | KeyQueueFullError | BusyError):
            await asyncio.sleep(random.uniform(*_REFUSAL_SECONDS))
        return error_response(error)


async def _only_posts(_: Incoming) -> Response:
    response = problem_response(METHOD_NOT_ALLOWED, "this path allows POST")
    response.headers["allow"] = "POST"
    return response


def _failure(error: Exception, request: Incoming) -> Response:
    """The answer where a key could not be looked up, or an endpoint has a fault."""
    problem = request_failure(error) if isinstance(error, DBAPIError) else None
    if problem is not None:
        return error_response(problem)
    log.error("unexpected error", exc_info=error, extra={"path": request.path, "error": type(error).__name__})
    return internal_error()


async def read_body(request: Incoming, *, most: int = MAX_BODY_BYTES) -> bytes:
    """The body of a request.

    Raises:
        PayloadTooLargeError: it has more than `most` bytes.
        ClientGoneError: the client leaves meanwhile.
    """
    body = await request.body(most=most)
    if body is None:
        raise PayloadTooLargeError(most)
    return body


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
        # An export runs for minutes and takes no turn: `exports/download.py` limits how many run at a time.
        is_export = scope["path"].startswith(_EXPORTS)
        if not is_export:
            self._shares.check_room(self._client)
        watcher = asyncio.create_task(self._watch(receive))
        try:
            if not is_export:
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
            # Its error refers to this frame, and the frame to it: only the garbage collector would find them.
            del turn

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


class _Answering:
    """Every answer has its request's id; browsers may not guess its type, nor show it inside another page."""

    def __init__(self, send: Send, own: Sequence[Header]) -> None:
        self._send = send
        self._own = own
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            message = {**message, "headers": _joined(message.get("headers", ()), self._own)}
        await self._send(message)

    async def send_whole(self, answer: Response) -> None:
        await self({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
        await self({"type": "http.response.body", "body": answer.body})


def _joined(headers: Iterable[Header], own: Sequence[Header]) -> list[Header]:
    known = list(headers)
    names = {name for name, _ in known}
    return [*known, *(each for each in own if each[0] not in names)]

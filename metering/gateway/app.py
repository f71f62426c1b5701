"""The gateway's HTTP application: its routes, its start and its stop. `completions.py` serves a completion."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from metering.emitter import Emitter
from metering.gateway.completions import Completion
from metering.gateway.problems import Problem, RefusedError
from metering.gateway.requests import authenticate, find_upstream, read_completion_request
from metering.gateway.settings import GatewaySettings
from metering.gateway.tokens import warm_up
from metering.gateway.upstream import UpstreamClient

# After SIGTERM: the time that running streams get, and then the time to acknowledge their events.
_GRACE_SECONDS = 30
_FLUSH_SECONDS = 5.0
_KEEP_ALIVE_SECONDS = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gateway:
    """The objects that live as long as the process."""

    settings: GatewaySettings
    emitter: Emitter
    client: UpstreamClient
    running: set[asyncio.Task[Any]] = field(default_factory=set)


def create_app(*, settings: GatewaySettings) -> Starlette:
    """The gateway as an ASGI application; its lifespan starts and closes the emitter."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        await asyncio.to_thread(warm_up)
        emitter = Emitter(
            url=settings.metering_url, key=settings.ingest_key, source=settings.source, spool=settings.spool
        )
        gateway = _Gateway(settings=settings, emitter=emitter, client=UpstreamClient())
        try:
            yield {"gateway": gateway}
        finally:
            if gateway.running:
                await asyncio.wait(set(gateway.running), timeout=_FLUSH_SECONDS)
            await gateway.client.close()
            await asyncio.to_thread(emitter.close, _FLUSH_SECONDS)

    return Starlette(
        routes=[
            Route("/v1/chat/completions", _ChatCompletions(), methods=["POST"]),
            Route("/v1/models", _list_models),
            Route("/v1/models/{model:path}", _retrieve_model),
            Route("/livez", _livez),
        ],
        lifespan=lifespan,
        exception_handlers={
            RefusedError: _answer_refused,
            HTTPException: _answer_http_exception,
            Exception: _answer_unexpected,
        },
    )


def run(*, settings: GatewaySettings) -> None:
    """Serve until SIGINT or SIGTERM; then accept no new streams, and give running ones up to 30 s."""
    uvicorn.run(
        create_app(settings=settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


class _ChatCompletions:
    """`POST /v1/chat/completions`, as a bare ASGI application, because only `receive` reports a disconnect."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        gateway = _gateway_of(request)
        try:
            completion_request = await read_completion_request(request=request, settings=gateway.settings)
        except ClientDisconnect:
            return
        completion = Completion(
            request=completion_request,
            client_headers=request.headers,
            client=gateway.client,
            emit=gateway.emitter.emit,
        )
        task = asyncio.current_task()
        assert task is not None
        gateway.running.add(task)
        try:
            await completion.serve(receive=receive, send=send)
        finally:
            gateway.running.discard(task)


async def _list_models(request: Request) -> Response:
    """The models that the configuration names exactly; the names behind a pattern are not known."""
    settings = _gateway_of(request).settings
    authenticate(request=request, settings=settings)
    named: dict[str, str] = {}
    for upstream in settings.upstreams:
        for pattern in upstream.models:
            if not set(pattern) & set("*?["):
                named.setdefault(pattern, upstream.provider)
    models = [_model_object(name, provider) for name, provider in named.items()]
    return JSONResponse({"object": "list", "data": models})


async def _retrieve_model(request: Request) -> Response:
    settings = _gateway_of(request).settings
    authenticate(request=request, settings=settings)
    model = request.path_params["model"]
    return JSONResponse(_model_object(model, find_upstream(model=model, settings=settings).provider))


async def _livez(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _model_object(model: str, provider: str) -> dict[str, object]:
    return {"id": model, "object": "model", "created": 0, "owned_by": provider}


def _gateway_of(request: Request) -> _Gateway:
    return cast(_Gateway, request.state.gateway)


async def _answer_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _problem_response(error.problem)


async def _answer_http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "invalid_request"
    return _problem_response(
        Problem(status=error.status_code, message=error.detail, type="invalid_request_error", code=code)
    )


async def _answer_unexpected(_: Request, __: Exception) -> Response:
    return _problem_response(
        Problem(status=500, message="The gateway failed.", type="server_error", code="gateway_error")
    )


def _problem_response(problem: Problem) -> Response:
    return Response(problem.body(), status_code=problem.status, media_type="application/json")

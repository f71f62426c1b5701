"""The gateway's HTTP application: its routes, its start and its stop. `completions.py` serves a completion."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from metering.answers.tokens import warm_up
from metering.emitter import Emitter
from metering.gateway.client import SERVERS_SEND
from metering.gateway.endpoints import ENDPOINTS, SERVED, Endpoint, Vendor
from metering.gateway.gateway import Gateway
from metering.gateway.metrics import CONTENT_TYPE_LATEST
from metering.gateway.policy_check import check_policies
from metering.gateway.problems import Problem, RefusedError
from metering.gateway.requests import authenticate, read_completion_request
from metering.gateway.serving import Connection, serve_completion
from metering.gateway.settings import GatewaySettings

# The time to acknowledge the last events at the end.
_FLUSH_SECONDS = 5.0


OnStart = Callable[[Gateway], None]


def create_app(*, settings: GatewaySettings, on_start: OnStart | None = None) -> Starlette:
    """The gateway as an ASGI application; its lifespan starts and closes the emitter.

    `on_start` is called with the running gateway, by who wants to reload or stop it.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        await asyncio.to_thread(warm_up)
        emitter = Emitter(
            url=settings.metering_url,
            key=settings.ingest_key if settings.ingest_key_file is None else settings.current_ingest_key,
            source=settings.source,
            spool=settings.spool,
            keep_sent=settings.keep_sent_seconds,
            holds=settings.holds.of_worker(settings.workers) if settings.holds else None,
        )
        gateway = Gateway(settings=settings, emitter=emitter)
        watching = [asyncio.create_task(gateway.tick()), asyncio.create_task(check_policies(gateway))]
        if gateway.copies is not None:
            gateway.copies.start()
        if on_start is not None:
            on_start(gateway)
        try:
            yield {"gateway": gateway}
        finally:
            gateway.stop_running()
            deadline = asyncio.get_running_loop().time() + _FLUSH_SECONDS
            while gateway.running and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.01)
            if gateway.copies is not None:
                await gateway.copies.close()
            for task in watching:
                task.cancel()
            gateway.client.close()
            gateway.generations.close()
            gateway.models.close()
            await asyncio.to_thread(emitter.close, _FLUSH_SECONDS)

    return _Application(
        routes=[
            *(Route(f"/v1{each.path}", _Metered(each), methods=["POST"]) for each in ENDPOINTS),
            Route("/v1/generations/{generation:path}", _generation),
            Route("/v1/models", _list_models),
            Route("/v1/models/{model:path}", _retrieve_model),
            Route("/livez", _livez),
            Route("/readyz", _readyz),
            Route("/metrics", _metrics),
        ],
        lifespan=lifespan,
        middleware=_middleware(settings),
        exception_handlers={
            RefusedError: _answer_refused,
            HTTPException: _answer_http_exception,
            Exception: _answer_unexpected,
        },
    )


def _middleware(settings: GatewaySettings) -> list[Middleware]:
    """CORS, where browsers of some origins may call."""
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-metering-stream-id", "x-metering-resumed", "x-metering-resumable"],
            max_age=600,
        )
    ]


class _Application(Starlette):
    """Lets completions send their chunks straight to the server."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[SERVERS_SEND] = send
        await super().__call__(scope, receive, send)


class _Metered:
    """An endpoint, as a bare ASGI application, because only `receive` reports a disconnect."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        gateway = _gateway_of(request)
        try:
            completion_request = await read_completion_request(
                request=request, routing=gateway.routing, endpoint=self._endpoint
            )
        except ClientDisconnect:
            return
        await serve_completion(
            request=request,
            completion_request=completion_request,
            connection=Connection(scope, receive, send),
            gateway=gateway,
        )


async def _generation(request: Request) -> Response:
    gateway = _gateway_of(request)
    key = authenticate(request=request, routing=gateway.routing)
    return await gateway.generations.answer(request, key)


async def _list_models(request: Request) -> Response:
    gateway = _gateway_of(request)
    authenticate(request=request, routing=gateway.routing)
    served = await gateway.models.served(gateway.routing)
    vendor = _vendor_of(request)
    models = [_model_object(each.name, each.provider, vendor) for each in served]
    if vendor is Vendor.ANTHROPIC:
        ends = {"first_id": served[0].name if served else None, "last_id": served[-1].name if served else None}
        return JSONResponse({"data": models, "has_more": False, **ends})
    return JSONResponse({"object": "list", "data": models})


async def _retrieve_model(request: Request) -> Response:
    routing = _gateway_of(request).routing
    authenticate(request=request, routing=routing)
    model = request.path_params["model"]
    provider = routing.find_upstream(model).provider
    return JSONResponse(_model_object(model, provider, _vendor_of(request)))


async def _livez(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _readyz(request: Request) -> Response:
    reason = _gateway_of(request).why_not_ready()
    if reason is None:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "unavailable", "reason": reason}, status_code=503)


async def _metrics(request: Request) -> Response:
    gateway = _gateway_of(request)
    gateway.publish()
    return Response(await asyncio.to_thread(gateway.metrics.render), media_type=CONTENT_TYPE_LATEST)


def _model_object(model: str, provider: str, vendor: Vendor) -> dict[str, object]:
    if vendor is Vendor.ANTHROPIC:
        return {"type": "model", "id": model, "display_name": model, "created_at": "1970-01-01T00:00:00Z"}
    return {"id": model, "object": "model", "created": 0, "owned_by": provider}


def _vendor_of(request: Request) -> Vendor:
    """The vendor whose path is asked, or whose SDK asks."""
    is_anthropic = request.url.path.startswith("/v1/messages") or "anthropic-version" in request.headers
    return Vendor.ANTHROPIC if is_anthropic else Vendor.OPENAI


def _gateway_of(request: Request) -> Gateway:
    return cast(Gateway, request.state.gateway)


async def _answer_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _problem_response(request, error.problem)


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message, code = error.detail, "invalid_request"
    if error.status_code == 404:
        code = "not_found"
        message = f"This gateway does not serve {request.method} {request.url.path[:200]}. It serves {SERVED}."
    return _problem_response(
        request, Problem(status=error.status_code, message=message, type="invalid_request_error", code=code)
    )


async def _answer_unexpected(request: Request, _: Exception) -> Response:
    return _problem_response(
        request, Problem(status=500, message="The gateway failed.", type="server_error", code="gateway_error")
    )


def _problem_response(request: Request, problem: Problem) -> Response:
    content = problem.body(_vendor_of(request))
    return Response(content, status_code=problem.status, media_type="application/json")

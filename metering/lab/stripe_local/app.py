"""The local Stripe as an ASGI application: the API, the control paths and the invoice page."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from metering.lab.stripe_local.control_routes import control_routes
from metering.lab.stripe_local.description import find, parse_pairs
from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.faults import RateLimits
from metering.lab.stripe_local.idempotency import Answer
from metering.lab.stripe_local.objects import API_VERSION
from metering.lab.stripe_local.operations import NoAnswerError, Operations
from metering.lab.stripe_local.page import page_routes
from metering.lab.stripe_local.store import Store
from metering.lab.stripe_local.webhooks import Deliveries

_MAX_BODY = 1024 * 1024
# Stripe's takes up to a minute, which is too long to wait for in a trial.
SEARCH_DELAY_SECONDS = 5.0


class DroppingProtocol(HttpToolsProtocol):
    """Lets the application close a connection before the end of an answer, like a broken network."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def create_stripe_local(
    *,
    state: Path | None = None,
    webhook_url: str | None = None,
    webhook_secret: str | None = None,
    limits: RateLimits | None = None,
    search_delay: float = SEARCH_DELAY_SECONDS,
) -> Starlette:
    """The application, to be served with `http=DroppingProtocol`; `state` is a SQLite file for all objects."""
    operations = Operations(Store(state, search_delay=search_delay), limits or RateLimits())
    deliveries = Deliveries(operations.store, url=webhook_url, secret=webhook_secret)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        deliveries.start()
        yield
        await deliveries.stop()
        operations.store.close()

    async def api(request: Request) -> Response:
        return await _answer(operations, request)

    return Starlette(
        routes=[
            Route("/livez", lambda _: JSONResponse({"status": "ok"})),
            *control_routes(operations, deliveries),
            *page_routes(operations.store),
            Route("/{path:path}", api, methods=["GET", "POST", "DELETE"]),
        ],
        lifespan=lifespan,
    )


async def _answer(operations: Operations, request: Request) -> Response:
    key = request.headers.get("idempotency-key")
    operations.store.base_url = str(request.base_url).rstrip("/")
    try:
        _check_key(request)
        operation, path = find(request.method, request.url.path)
        form = await _form(request)
        answer, replayed = await operations.answer(operation, path, form, key)
    except RefusedError as error:
        return _response(Answer(error.status, error.document()), key, replayed=False)
    except NoAnswerError:
        request.state.transport.abort()
        return Response(status_code=499)
    return _response(answer, key, replayed=replayed)


def _response(answer: Answer, key: str | None, *, replayed: bool) -> Response:
    headers = {"request-id": f"req_{token_hex(7)}", "stripe-version": API_VERSION, "stripe-local": "1"}
    if key is not None:
        headers |= {"idempotency-key": key, **({"idempotent-replayed": "true"} if replayed else {})}
    return JSONResponse(answer.body, answer.status, {**headers, **answer.headers})


def _check_key(request: Request) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        given = base64.b64decode(given, validate=False).decode(errors="replace").partition(":")[0]
    if not given.startswith(("sk_", "rk_")):
        raise RefusedError("You did not provide an API key, sk_test_… for instance.", status=401, kept=False)


async def _form(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise RefusedError("The request is too large.", status=413, kept=False)
    text = "&".join(filter(None, (request.url.query, body.decode(errors="replace"))))
    return parse_pairs(parse_qsl(text, keep_blank_values=True))

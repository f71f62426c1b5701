"""The local Stripe as an ASGI application: the API, the control paths, the page."""

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
from metering.lab.stripe_local.description import find
from metering.lab.stripe_local.desk import Desk, LostError
from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.events import API_VERSION
from metering.lab.stripe_local.form import parse_pairs
from metering.lab.stripe_local.idempotency import Answer
from metering.lab.stripe_local.limits import RateLimits
from metering.lab.stripe_local.page import page_routes
from metering.lab.stripe_local.store import Store
from metering.lab.stripe_local.webhooks import Deliveries

_MAX_BODY = 1024 * 1024
# Stripe's takes less than a minute most of the time; a person who tries it does not want to wait that long.
SEARCH_DELAY_SECONDS = 5.0


class DroppingProtocol(HttpToolsProtocol):
    """Lets the application close a connection without an answer, as a broken network does."""

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
    """The application; serve it with `http=DroppingProtocol`. `state` is a file that keeps what it knows."""
    desk = Desk(Store(state, search_delay=search_delay), limits or RateLimits())
    deliveries = Deliveries(desk.store, url=webhook_url, secret=webhook_secret)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        deliveries.start()
        yield
        await deliveries.stop()
        desk.store.close()

    async def api(request: Request) -> Response:
        return await _answer(desk, request)

    return Starlette(
        routes=[
            Route("/livez", lambda _: JSONResponse({"status": "ok"})),
            *control_routes(desk, deliveries),
            *page_routes(desk.store),
            Route("/{path:path}", api, methods=["GET", "POST", "DELETE"]),
        ],
        lifespan=lifespan,
    )


async def _answer(desk: Desk, request: Request) -> Response:
    key = request.headers.get("idempotency-key")
    desk.store.base_url = str(request.base_url).rstrip("/")
    try:
        _check_key(request)
        operation, path = find(request.method, request.url.path)
        form = await _form(request)
        answer, replayed = await desk.answer(operation, path, form, key)
    except RefusedError as error:
        return _response(Answer(error.status, error.document()), key, replayed=False)
    except LostError:
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

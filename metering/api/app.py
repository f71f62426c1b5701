"""The API as one ASGI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import msgspec
import psycopg
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metering.access.keys import KeyLimits
from metering.access.store.keys import LAST_USE_EVERY
from metering.api import (
    alerts,
    audit_log,
    backlog,
    balances,
    budgets,
    charges,
    corrections,
    customers,
    events,
    exports,
    generations,
    grants,
    health,
    invoices,
    keys,
    month_totals,
    open_streams,
    prices,
    problem_pages,
    streams,
    stripe,
    terms,
    totals,
    webhooks,
)
from metering.api.auth import Authenticator
from metering.api.description import describe_app
from metering.api.failures import Failures
from metering.api.gate import Limits
from metering.api.holds import HoldsEndpoint
from metering.api.ingest import IngestEndpoint
from metering.api.inlets.build_doors import build_doors
from metering.api.key_limits import KeyLimiter
from metering.api.metrics import build_work_collector
from metering.api.pools import open_pools
from metering.api.problem_handlers import install_problem_handlers
from metering.api.shares import Shares
from metering.budgets.hold_writer import HoldWriter
from metering.core.clock import utc_now
from metering.core.collector import freeze_collector
from metering.dashboard.app import create_dashboard
from metering.dashboard.static_files import StaticFiles
from metering.db.engine import service_conninfo
from metering.server.bootstrap import Service, database_url, redis_url
from metering.server.database_watch import DatabaseWatch
from metering.server.settings import Settings
from metering.streams.ingest.metrics import INGEST_QUEUED_EVENTS
from metering.streams.ingest.nudge import Nudger
from metering.streams.ingest.writer import IngestWriter

# Paths that end in a fixed name go before a stream's own path: its id may contain slashes.
ROUTERS = (
    events.stream_events_router,
    backlog.resolution_router,
    generations.router,
    streams.receipt_router,
    streams.router,
    open_streams.router,
    charges.router,
    totals.router,
    month_totals.router,
    balances.balance_router,
    balances.top_up_router,
    customers.router,
    prices.router,
    terms.router,
    backlog.router,
    corrections.router,
    budgets.router,
    grants.router,
    balances.router,
    invoices.router,
    exports.router,
    alerts.router,
    webhooks.router,
    keys.router,
    audit_log.router,
    stripe.router,
    stripe.webhook_router,
    health.router,
    problem_pages.router,
)


def create_app(service: Service) -> FastAPI:
    """The API on a service; the writer and the nudger live as long as the application does."""
    settings = service.settings
    doors = build_doors(settings, clock=utc_now)
    pools = open_pools(settings)
    limits = Limits(
        authenticator=Authenticator(pools.keys),
        keys=KeyLimiter(_key_limits(settings)),
        shares=Shares(turns=settings.concurrent_reads, wait=settings.read_wait),
        watch=DatabaseWatch(pools.watch),
        failures=Failures(),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        nudger = Nudger(redis_url=redis_url(settings))
        writer = _ingest_writer(settings, nudger)
        app.state.writer = writer
        app.state.work_collector = build_work_collector(settings, engine=pools.metrics)
        holds = HoldWriter(engine=pools.holds, price_books=service.price_books, clock=utc_now)
        app.state.ingest = IngestEndpoint(doors=doors, writer=writer, holds=holds, limits=limits, clock=utc_now)
        app.state.holds = HoldsEndpoint(writer=holds, limits=limits)
        await limits.watch.start()
        nudger.start()
        writer.start()
        holds.start()
        beside = [asyncio.create_task(each) for each in (_note_use(limits.authenticator), _tell_queue(writer))]
        # A request makes some hundred objects and frees them; searching them for cycles finds none.
        freeze_collector(young_objects=50_000)
        yield
        for task in beside:
            task.cancel()
        await writer.stop()
        await holds.stop()
        nudger.stop()
        await limits.watch.stop()
        limits.authenticator.close()
        pools.close()
        service.dispose()

    # The documentation page serves its own scripts: it must work without a network.
    app = FastAPIOffline(title="Metering", version="1", redoc_url=None, lifespan=lifespan)
    app.state.service = service
    app.state.doors = doors
    app.state.pools = pools
    app.state.limits = limits
    app.state.authenticator = limits.authenticator
    install_problem_handlers(app)
    for router in ROUTERS:
        # The routes as they are: `include_router` makes each again, with its models, at an app's first request.
        app.router.routes.extend(router.routes)
    app.state.files = StaticFiles()
    app.mount("/dashboard", create_dashboard(service, exports=pools.exports, files=app.state.files))
    app.add_route("/", lambda _: RedirectResponse("/dashboard/"), include_in_schema=False)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    _serve_description_encoded(app)
    return app


def _ingest_writer(settings: Settings, nudger: Nudger) -> IngestWriter:
    conninfo = service_conninfo(database_url(settings))
    return IngestWriter(
        connect=lambda: psycopg.AsyncConnection.connect(conninfo, autocommit=True),
        max_queued_events=settings.ingest_queue_events,
        commit_timeout=settings.ingest_commit_timeout,
        abandon_after=settings.abandon_after,
        on_ended=nudger.nudge,
    )


def _key_limits(settings: Settings) -> KeyLimits:
    return KeyLimits(
        events_per_second=settings.key_events_per_second,
        requests_per_second=settings.key_requests_per_second,
        concurrent_requests=settings.key_concurrent_requests,
    )


async def _note_use(authenticator: Authenticator) -> None:
    """Once a minute, store which keys were used: beside the requests, of which none waits for it."""
    while True:
        await asyncio.sleep(LAST_USE_EVERY.total_seconds())
        await run_in_threadpool(authenticator.store_use)


async def _tell_queue(writer: IngestWriter) -> None:
    """Once a second, for whoever asks another process that shares the socket."""
    while True:
        INGEST_QUEUED_EVENTS.set(writer.queued_events)
        await asyncio.sleep(1)


def _serve_description_encoded(app: FastAPI) -> None:
    """Serve `/openapi.json` as bytes that are made once: it needs no key, and encoding it takes 20 ms."""

    @cache
    def encoded() -> bytes:
        return msgspec.json.encode(app.openapi())

    async def serve(_: Request) -> Response:
        return Response(encoded(), media_type="application/json")

    path = app.openapi_url or ""
    place = [getattr(route, "path", "") for route in app.routes].index(path)
    app.router.routes[place] = Route(path, serve, include_in_schema=False)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = describe_app(app)
    return app.openapi_schema

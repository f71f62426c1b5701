"""The dashboard as an ASGI application: signed-in pages, files and forms."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from metering.core.clock import utc_now
from metering.corrections.queries import count_backlog
from metering.dashboard.backlog_form import backlog_form_routes
from metering.dashboard.downloads import FILES, File, export_route, table_file
from metering.dashboard.errors import HANDLERS
from metering.dashboard.links import navigation
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.pages import PAGES
from metering.dashboard.rendering import HEADERS, STATIC, render
from metering.dashboard.sessions import viewer_of
from metering.dashboard.sign_in import sign_in_routes
from metering.db.cancellation import Cancellation
from metering.db.engine import read_transaction
from metering.server.bootstrap import Service
from metering.server.queries import finalizing_behind

# A query that takes longer needs narrower filters.
_TIMEOUT_MILLISECONDS = 10_000
_IMMUTABLE = "public, max-age=31536000, immutable"


class _Static(StaticFiles):
    """Files whose addresses change with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update({**HEADERS, "cache-control": _IMMUTABLE})
        return response


def create_dashboard(service: Service, *, exports: Engine) -> Starlette:
    """The application; mount it at `/dashboard`. Downloads of months use the engine `exports`."""
    return Starlette(
        routes=[
            Mount("/static", _Static(directory=str(STATIC))),
            *sign_in_routes(service),
            *backlog_form_routes(service),
            export_route(service, engine=exports),
            *(Route(path, _page(service, build), methods=["GET"]) for path, build in PAGES),
            *(Route(path, _file(service, build), methods=["GET"]) for path, build in FILES),
        ],
        exception_handlers=HANDLERS,
    )


@contextmanager
def _page_request(service: Service, request: Request) -> Iterator[PageRequest]:
    """A signed-in request, with a snapshot to answer it from."""
    now = utc_now()
    viewer = viewer_of(request, engine=service.engine, now=now)
    cancellation: Cancellation = request.state.cancellation
    with read_transaction(service.engine) as connection, cancellation.covers(connection):
        connection.execute(text(f"SET LOCAL statement_timeout = {_TIMEOUT_MILLISECONDS}"))
        yield PageRequest(
            service=service,
            connection=connection,
            viewer=viewer,
            query=request.query_params,
            now=now,
            refreshes="hx-request" in request.headers,
        )


def _page(service: Service, build: Callable[[PageRequest], Page]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        with _page_request(service, request) as wanted:
            if (name := request.query_params.get("csv")) is not None:
                return table_file(wanted, build, name).response()
            page = build(wanted)
            behind = finalizing_behind(wanted.connection, now=wanted.now)
            waiting = count_backlog(wanted.connection, customer_id=wanted.viewer.customer_id)
        context = {
            **page.context,
            "title": page.title,
            "crumbs": page.crumbs,
            "viewer": wanted.viewer,
            "navigation": navigation(wanted.viewer, page.section),
            "zone": page.zone,
            "now": wanted.now,
            "behind": behind,
            "backlog_count": waiting,
            "here": request.url.path,
            "query": wanted.filters,
        }
        return render(page.template, context)

    return endpoint


def _file(service: Service, build: Callable[[PageRequest], File]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        with _page_request(service, request) as wanted:
            return build(wanted).response()

    return endpoint

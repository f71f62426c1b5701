"""The dashboard as an ASGI application: signed-in pages, their tables as files, forms."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from metering.core.clock import utc_now
from metering.dashboard.asking import Asked, Page
from metering.dashboard.explaining import HANDLERS
from metering.dashboard.exporting import export_routes
from metering.dashboard.files import FILES, File
from metering.dashboard.navigation import navigation
from metering.dashboard.pages import PAGES
from metering.dashboard.rendering import HEADERS, STATIC, render
from metering.dashboard.settling import settling_routes
from metering.dashboard.sign_in import sign_in_routes
from metering.dashboard.table_files import table_file
from metering.dashboard.viewers import viewer_of
from metering.db.engine import read_transaction
from metering.server.bootstrap import Service
from metering.server.queries import finalizing_behind

# A question that takes longer is one that somebody should narrow.
_MOST_MILLISECONDS = 10_000
_PERMANENT = "public, max-age=31536000, immutable"


class _Static(StaticFiles):
    """Files whose addresses change when they do."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update({**HEADERS, "cache-control": _PERMANENT})
        return response


def create_dashboard(service: Service) -> Starlette:
    """The application; mount it at `/dashboard`."""
    return Starlette(
        routes=[
            Mount("/static", _Static(directory=str(STATIC))),
            *sign_in_routes(service),
            *settling_routes(service),
            *export_routes(service),
            *(Route(path, _page(service, build), methods=["GET"]) for path, build in PAGES),
            *(Route(path, _file(service, build), methods=["GET"]) for path, build in FILES),
        ],
        exception_handlers=HANDLERS,
    )


@contextmanager
def _asked(service: Service, request: Request) -> Iterator[Asked]:
    """A signed-in request with a snapshot to answer it from."""
    now = utc_now()
    viewer = viewer_of(request, engine=service.engine, now=now)
    with read_transaction(service.engine) as connection:
        connection.execute(text(f"SET LOCAL statement_timeout = {_MOST_MILLISECONDS}"))
        yield Asked(
            service=service,
            connection=connection,
            viewer=viewer,
            query=request.query_params,
            now=now,
            refreshes="hx-request" in request.headers,
        )


def _page(service: Service, build: Callable[[Asked], Page]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        with _asked(service, request) as asked:
            if (name := request.query_params.get("csv")) is not None:
                return _hand_out(table_file(asked, build, name))
            page = build(asked)
            behind = finalizing_behind(asked.connection, now=asked.now)
        context = {
            **page.context,
            "title": page.title,
            "crumbs": page.crumbs,
            "viewer": asked.viewer,
            "navigation": navigation(asked.viewer, page.section),
            "zone": page.zone,
            "now": asked.now,
            "behind": behind,
            "here": request.url.path,
            "query": asked.filters,
        }
        return render(page.template, context)

    return endpoint


def _file(service: Service, build: Callable[[Asked], File]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        with _asked(service, request) as asked:
            return _hand_out(build(asked))

    return endpoint


def _hand_out(file: File) -> Response:
    headers = {
        **HEADERS,
        **({"content-security-policy": file.policy} if file.policy else {}),
        "content-disposition": f'{"inline" if file.inline else "attachment"}; filename="{file.name}"',
        "cache-control": "no-store",
    }
    return Response(file.body, headers=headers, media_type=file.media_type)

"""The dashboard as an ASGI application: signed-in pages, files and forms."""

from collections.abc import Callable

from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from metering.core.errors import MeteringError
from metering.dashboard.access import SCOPES_OF_PAGES, needs
from metering.dashboard.adjust_form import adjust_form_routes
from metering.dashboard.alert_forms import alert_form_routes
from metering.dashboard.backlog_form import backlog_form_routes
from metering.dashboard.budget_forms import budget_form_routes
from metering.dashboard.credit_forms import credit_form_routes
from metering.dashboard.downloads import FILES, File, export_route, table_file
from metering.dashboard.errors import HANDLERS, NotFoundError, as_dashboard_error, is_of_a_page
from metering.dashboard.key_forms import key_form_routes
from metering.dashboard.link_forms import link_form_routes
from metering.dashboard.month_end_forms import month_end_form_routes
from metering.dashboard.page_rendering import open_page_request, problem_page, render_page
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.pages import PAGES
from metering.dashboard.preferences import preference_routes
from metering.dashboard.sign_in import sign_in_routes
from metering.dashboard.static_files import StaticFiles
from metering.dashboard.webhook_forms import webhook_form_routes
from metering.server.bootstrap import Service


def create_dashboard(service: Service, *, exports: Engine, files: StaticFiles) -> Starlette:
    """The application; mount it at `/dashboard`. Downloads of months use the engine `exports`."""
    return Starlette(
        routes=[
            Mount("/static", files),
            *sign_in_routes(service),
            *backlog_form_routes(service),
            export_route(service, engine=exports),
            *key_form_routes(service),
            *link_form_routes(service),
            *month_end_form_routes(service),
            *adjust_form_routes(service),
            *alert_form_routes(service),
            *webhook_form_routes(service),
            *preference_routes(service),
            *budget_form_routes(service),
            *credit_form_routes(service),
            *(
                Route(path, needs(*SCOPES_OF_PAGES[path])(_page(service, build)), methods=["GET"])
                for path, build in PAGES
            ),
            *(
                Route(path, needs(*SCOPES_OF_PAGES[path])(_file(service, build)), methods=["GET"])
                for path, build in FILES
            ),
            # The last one: whoever is signed in is told within the frame, with the way on.
            Route("/{path:path}", needs()(_page(service, _no_such_page)), methods=["GET"]),
        ],
        exception_handlers=HANDLERS,
    )


def _page(service: Service, build: Callable[[PageRequest], Page]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        with open_page_request(service, request) as wanted:
            try:
                if (name := request.query_params.get("csv")) is not None:
                    return table_file(wanted, build, name).response()
                return render_page(wanted, build(wanted), here=request.url.path)
            except MeteringError as error:
                # The person stays where they are: with the navigation, and with what they have chosen.
                shown = as_dashboard_error(error)
                if shown is None or not is_of_a_page(shown):
                    raise
                return render_page(wanted, problem_page(shown), here=request.url.path, status=shown.status)

    return endpoint


def _no_such_page(request: PageRequest) -> Page:  # noqa: ARG001 - it is the same for every address
    raise NotFoundError("this page does not exist")


def _file(service: Service, build: Callable[[PageRequest], File]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        with open_page_request(service, request) as wanted:
            return build(wanted).response()

    return endpoint

"""Open a request for a page, with its snapshot of the database, and render the page with what every page has."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import Response

from metering.access.scopes import Scope
from metering.core.clock import utc_now
from metering.core.request_id import current_request_id
from metering.corrections.queries import count_backlog
from metering.customers.queries.customers import customer_names
from metering.dashboard.arranging import Arrangement, customers_in
from metering.dashboard.deployment import deployment_of
from metering.dashboard.errors import DashboardError
from metering.dashboard.links import navigation
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.preferences import clock_of, preferences_of
from metering.dashboard.rendering import render
from metering.dashboard.sessions import viewer_of
from metering.dashboard.times import Clock
from metering.db.cancellation import Cancellation
from metering.db.snapshots import read_transaction
from metering.server.bootstrap import Service
from metering.server.queries import finalizing_behind

# A query that takes longer needs narrower filters.
_TIMEOUT_MILLISECONDS = 10_000


@contextmanager
def open_page_request(service: Service, request: Request) -> Iterator[PageRequest]:
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
            origin=f"{request.url.scheme}://{request.url.netloc}",
            preferences=preferences_of(request.cookies),
        )


def problem_page(error: DashboardError) -> Page:
    """What is wrong with a request, in place of its page."""
    context = {"detail": str(error), "request_id": current_request_id()}
    return Page(template="problem.html.j2", title=error.title, section="", context=context)


def render_page(wanted: PageRequest, page: Page, *, here: str, status: int = 200) -> Response:
    """The page as an answer; `here` is its address."""
    viewer = wanted.viewer
    may_count = viewer.may(Scope.CORRECTIONS_READ)
    waiting = count_backlog(wanted.connection, customer_id=viewer.customer_id) if may_count else 0
    ids = {*customers_in(page.tables), *page.customers}
    names = customer_names(wanted.connection, ids) if ids else {}
    context = {
        **page.context,
        "arranged": Arrangement(wanted.query, "behind" not in wanted.query, names),
        "names": names,
        "title": page.title,
        "crumbs": page.crumbs,
        "viewer": viewer,
        "navigation": navigation(viewer, page.section, backlog_count=waiting),
        "calendar": page.calendar,
        "now": wanted.now,
        "words_searched": wanted.text("q") or "" if page.section == "search" else "",
        "deployment": deployment_of(wanted.service.settings) if viewer.customer_id is None else (),
        "behind": finalizing_behind(wanted.connection, now=wanted.now),
        "backlog_count": waiting,
        "clock": _clock(wanted, page),
        "back": f"{here}?{urlencode(wanted.query.multi_items())}",
        "here": here,
        "query": wanted.filters,
    }
    return render(page.template, context, status=status, theme=wanted.preferences.theme)


def _clock(wanted: PageRequest, page: Page) -> Clock:
    """The clock for the page's times: of the customers in its tables, if the viewer wants each one's own."""
    customers = {table.customer_of(row) for table in page.tables for row in table.rows}
    return clock_of(
        wanted.connection,
        wanted.preferences,
        viewer_customer=wanted.viewer.customer_id,
        about=page.customer_id,
        customers={each for each in customers if each is not None},
    )

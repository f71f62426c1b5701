"""Errors as pages that say what to do; whoever is signed out is shown the way in."""

import logging
from urllib.parse import urlencode

from psycopg.errors import QueryCanceled
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ExceptionHandler

from metering.core.cursors import InvalidCursorError
from metering.core.errors import MeteringError
from metering.core.period import InvalidPeriodError
from metering.customers.store import UnknownCustomerError
from metering.dashboard.errors import (
    BusyError,
    DashboardError,
    NoSuchThingError,
    SignedOutError,
    TooSlowError,
    WrongQuestionError,
)
from metering.dashboard.rendering import HEADERS, render
from metering.db.engine import DatabaseUnavailableError
from metering.exports.download import ChunksUnsupportedError, TooManyExportsError

log = logging.getLogger(__name__)

SIGN_IN = "/dashboard/sign-in"


def explain(request: Request, error: DashboardError) -> Response:
    """The answer to a request that cannot be answered as it is."""
    if isinstance(error, SignedOutError):
        return _to_sign_in(request)
    context = {"title": error.title, "detail": str(error), "status": error.status}
    return render("error.html.j2", context, status=error.status)


def _to_sign_in(request: Request) -> Response:
    """To the form, and from there back to where somebody wanted to go. It cannot be shown within a page."""
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={**HEADERS, "hx-redirect": SIGN_IN})
    target = f"{request.url.path}{'?' if request.url.query else ''}{request.url.query}"
    return RedirectResponse(f"{SIGN_IN}?{urlencode({'next': target})}", status_code=303, headers=HEADERS)


def _explain_dashboard(request: Request, error: Exception) -> Response:
    assert isinstance(error, DashboardError)
    return explain(request, error)


def _explain_other(request: Request, error: Exception) -> Response:
    """Failures of the layers below that a request can meet."""
    if isinstance(error, InvalidPeriodError | InvalidCursorError):
        return explain(request, WrongQuestionError(str(error)))
    if isinstance(error, UnknownCustomerError):
        return explain(request, NoSuchThingError(str(error)))
    if isinstance(error, TooManyExportsError | ChunksUnsupportedError):
        return explain(request, BusyError(str(error)))
    if isinstance(error, DatabaseUnavailableError):
        return explain(request, TooSlowError("the database cannot be reached right now: try again"))
    raise error


def _explain_database(request: Request, error: Exception) -> Response:
    assert isinstance(error, OperationalError)
    if isinstance(error.orig, QueryCanceled):
        return explain(request, TooSlowError("narrow the range, or choose a customer"))
    log.error("PostgreSQL failed during a page", extra={"error": str(error.orig).strip()})
    return explain(request, TooSlowError("the database failed during the page: try again"))


def _explain_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return explain(request, NoSuchThingError("there is no such page"))
    wrong = DashboardError(error.detail)
    wrong.status = error.status_code
    return explain(request, wrong)


def _explain_unexpected(request: Request, error: Exception) -> Response:
    # The server logs the traceback itself; this line says where it came from.
    log.error("unexpected error", extra={"path": request.url.path, "error": type(error).__name__})
    context = {"title": "Something went wrong here", "detail": "It was logged; try again.", "status": 500}
    return render("error.html.j2", context, status=500)


HANDLERS: dict[type[Exception] | int, ExceptionHandler] = {
    DashboardError: _explain_dashboard,
    MeteringError: _explain_other,
    OperationalError: _explain_database,
    HTTPException: _explain_http,
    Exception: _explain_unexpected,
}

"""Errors of dashboard requests, and the pages that answer them with what to do."""

import logging
from urllib.parse import urlencode

from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from metering.core.cursors import InvalidCursorError
from metering.core.errors import MeteringError
from metering.core.period import InvalidPeriodError
from metering.core.request_id import current_request_id
from metering.customers.store import UnknownCustomerError
from metering.dashboard.rendering import HEADERS, Theme, render, see_other, theme_of
from metering.db.engine import DatabaseUnavailableError, QueryTimeoutError, request_failure
from metering.exports.download import ChunksUnsupportedError, TooManyExportsError
from metering.exports.export_month import NotForExcelError
from metering.streams.store.archived import StreamArchivedError

log = logging.getLogger(__name__)

SIGN_IN = "/dashboard/sign-in"


class DashboardError(MeteringError):
    """A request that cannot be answered. `status` is the HTTP status, `title` the heading of the page."""

    status = 400
    title = "Request failed"


class InvalidFilterError(DashboardError):
    """A filter is invalid; the message names it."""

    status = 422
    title = "Invalid filter"


class InvalidFormError(DashboardError):
    """A form field is invalid; the message names it."""

    status = 422
    title = "Invalid form"


class ChangedError(DashboardError):
    """What a form is about has changed since its page was read."""

    status = 409
    title = "Changed since"


class NotFoundError(DashboardError):
    """The page, customer, stream or invoice does not exist, or the viewer may not see it."""

    status = 404
    title = "Not found"


class ArchivedError(DashboardError):
    """The details of a stream are in an archive."""

    status = 410
    title = "Archived"


class NotAllowedError(DashboardError):
    """The viewer's key may not do this."""

    status = 403
    title = "Not allowed with this key"


class SlowQueryError(DashboardError):
    """The database took too long."""

    status = 503
    title = "The query took too long"


class UnavailableError(DashboardError):
    """The database cannot be used, or a download cannot be sent now or in this way."""

    status = 503
    title = "Temporarily unavailable"


class SignedOutError(DashboardError):
    """The request has no valid session."""

    status = 401
    title = "Sign in"


class TooManyAttemptsError(DashboardError):
    """Too many failed sign-ins from one address."""

    status = 429
    title = "Too many attempts"


def error_page(request: Request, error: DashboardError) -> Response:
    """The answer to a failed request; without a session, a redirect to the sign-in form."""
    if isinstance(error, SignedOutError):
        return _to_sign_in(request)
    return _page(error.title, str(error), error.status, theme_of(request.cookies))


def _page(title: str, detail: str, status: int, theme: Theme) -> Response:
    context = {"title": title, "detail": detail, "status": status, "request_id": current_request_id()}
    return render("error.html.j2", context, status=status, theme=theme)


def _to_sign_in(request: Request) -> Response:
    """To the form, and back to the requested page afterwards. The form cannot be shown inside a page."""
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={**HEADERS, "hx-redirect": SIGN_IN})
    target = f"{request.url.path}{'?' if request.url.query else ''}{request.url.query}"
    return see_other(f"{SIGN_IN}?{urlencode({'next': target})}")


def _answer_dashboard_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DashboardError)
    return error_page(request, error)


def as_dashboard_error(error: MeteringError) -> DashboardError | None:
    """An expected failure, also of the rooms below; None for any other."""
    match error:
        case DashboardError():
            return error
        case InvalidPeriodError() | InvalidCursorError() | NotForExcelError():
            return InvalidFilterError(str(error))
        case UnknownCustomerError():
            return NotFoundError(str(error))
        case StreamArchivedError():
            return ArchivedError(
                f"the details of this stream are in the archive {error.archive_id}; its cost stays in totals,"
                " invoices and exports"
            )
        case TooManyExportsError() | ChunksUnsupportedError():
            return UnavailableError(str(error))
        case QueryTimeoutError():
            return SlowQueryError(str(error))
        case DatabaseUnavailableError():
            return UnavailableError("the database cannot be used now: try again")
    return None


def is_of_a_page(error: DashboardError) -> bool:
    """Whether the page itself says so: the session is good, and the database answers."""
    return isinstance(error, InvalidFilterError | NotFoundError | NotAllowedError | ArchivedError)


def _answer_other_room(request: Request, error: Exception) -> Response:
    assert isinstance(error, MeteringError)
    shown = as_dashboard_error(error)
    if shown is None:
        raise error
    return error_page(request, shown)


def _answer_database(request: Request, error: Exception) -> Response:
    assert isinstance(error, DBAPIError)
    failure = request_failure(error)
    if failure is None:
        raise error
    return _answer_other_room(request, failure)


def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_page(request, NotFoundError("this page does not exist"))
    other = DashboardError(error.detail)
    other.status = error.status_code
    return error_page(request, other)


def _answer_unexpected(request: Request, error: Exception) -> Response:
    # The server logs the traceback; this line adds the path.
    log.error("unexpected error", extra={"path": request.url.path, "error": type(error).__name__})
    return _page("Internal error", "The error was logged. Try again.", 500, theme_of(request.cookies))


HANDLERS: dict[type[Exception] | int, ExceptionHandler] = {
    DashboardError: _answer_dashboard_error,
    MeteringError: _answer_other_room,
    DBAPIError: _answer_database,
    HTTPException: _answer_http,
    Exception: _answer_unexpected,
}

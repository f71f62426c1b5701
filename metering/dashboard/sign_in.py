"""Signing in with a key, and out."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metering.core.clock import utc_now
from metering.dashboard.attempts import Attempts
from metering.dashboard.errors import DashboardError, TooManyAttemptsError
from metering.dashboard.explaining import SIGN_IN
from metering.dashboard.forms import read_form
from metering.dashboard.rendering import HEADERS, render
from metering.dashboard.viewers import (
    TOKEN_FIELD,
    check_origin,
    check_token,
    drop_cookie,
    set_cookie,
    sign_in,
    sign_out,
    viewer_of,
)
from metering.server.bootstrap import Service

_HOME = "/dashboard/"


def sign_in_routes(service: Service) -> list[Route]:
    """The form, what it sends, and signing out."""
    attempts = Attempts()

    async def show(request: Request) -> Response:
        return _form(_destination(request.query_params.get("next")))

    async def take(request: Request) -> Response:
        check_origin(request)
        address = request.client.host if request.client else "unknown"
        form = await read_form(request)
        destination = _destination(form.get("next"))
        if wait := attempts.wait_seconds(address):
            wrong = TooManyAttemptsError(f"too many keys were tried from here: wait {wait} s, then try again")
            return _form(destination, wrong, headers={"retry-after": str(wait)})
        lifetime = service.settings.session_lifetime
        try:
            session = await run_in_threadpool(
                sign_in, engine=service.engine, key=form.get("key", ""), now=utc_now(), lifetime=lifetime
            )
        except DashboardError as error:
            attempts.failed(address)
            return _form(destination, error)
        response = RedirectResponse(destination, status_code=303, headers=HEADERS)
        set_cookie(response, session, secure=request.url.scheme == "https", lifetime=lifetime)
        return response

    async def leave(request: Request) -> Response:
        check_origin(request)
        form = await read_form(request)
        viewer = await run_in_threadpool(viewer_of, request, engine=service.engine, now=utc_now())
        check_token(viewer, form.get(TOKEN_FIELD, ""))
        await run_in_threadpool(sign_out, request, engine=service.engine)
        response = RedirectResponse(SIGN_IN, status_code=303, headers=HEADERS)
        drop_cookie(response)
        return response

    return [
        Route("/sign-in", show, methods=["GET"]),
        Route("/sign-in", take, methods=["POST"]),
        Route("/sign-out", leave, methods=["POST"]),
    ]


def _form(
    destination: str, error: DashboardError | None = None, *, headers: dict[str, str] | None = None
) -> Response:
    context = {"title": "Sign in", "next": destination, "problem": str(error) if error else None}
    response = render("sign_in.html.j2", context, status=error.status if error else 200)
    response.headers.update(headers or {})
    return response


def _destination(given: str | None) -> str:
    """Where to go after signing in: a page of the dashboard, and never another site."""
    if given is None or not given.startswith("/dashboard/"):
        return _HOME
    return _HOME if any(character in given for character in "\\\r\n\t") else given

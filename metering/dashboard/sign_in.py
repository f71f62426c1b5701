"""Signing in with a key, and signing out. An address that fails often has to wait; a right key always passes.

Keys are too long to be guessed. So the limit only slows guessing down, and does not lock out those who share the
address.
"""

import threading
from collections import OrderedDict
from time import monotonic

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.core.clock import utc_now
from metering.dashboard.access import needs, open_to_all
from metering.dashboard.errors import SIGN_IN, DashboardError, TooManyAttemptsError
from metering.dashboard.forms import own_page, read_form, read_signed_form
from metering.dashboard.rendering import render, see_other, theme_of
from metering.dashboard.sessions import delete_cookie, set_cookie, sign_in, sign_out
from metering.server.bootstrap import Service

_MAX_FAILURES, _WINDOW_SECONDS = 10, 60.0
_MAX_ADDRESSES = 10_000


class FailedSignIns:
    """Failed sign-ins of each address within a minute; keeps the ten thousand most recent addresses."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, address: str) -> int:
        """Seconds until an address may try again; 0 if it may try now."""
        with self._lock:
            failures = self._recent(address)
            if len(failures) < _MAX_FAILURES:
                return 0
            return max(1, round(failures[0] + _WINDOW_SECONDS - monotonic()))

    def add(self, address: str) -> None:
        """Count a failed sign-in."""
        with self._lock:
            self._failures[address] = [*self._recent(address), monotonic()]
            self._failures.move_to_end(address)
            while len(self._failures) > _MAX_ADDRESSES:
                self._failures.popitem(last=False)

    def _recent(self, address: str) -> list[float]:
        since = monotonic() - _WINDOW_SECONDS
        return [at for at in self._failures.get(address, ()) if at > since][-_MAX_FAILURES:]


def sign_in_routes(service: Service) -> list[Route]:
    """The sign-in form, its submission, and sign-out."""
    failed = FailedSignIns()

    @open_to_all
    async def show(request: Request) -> Response:
        return _form(request, own_page(request.query_params.get("next")))

    @open_to_all
    async def submit(request: Request) -> Response:
        form = await read_form(request)
        address = request.client.host if request.client else "unknown"
        destination = own_page(form.get("next"))
        lifetime = service.settings.session_lifetime
        try:
            session = await run_in_threadpool(
                sign_in,
                engine=service.engine,
                key=form.get("key", ""),
                now=utc_now(),
                lifetime=lifetime,
                by_link=form.get("by") == "link",
            )
        except DashboardError as error:
            if wait := failed.wait_seconds(address):
                refusal = TooManyAttemptsError(f"too many failed sign-ins from this address: wait {wait} s")
                return _form(request, destination, refusal, headers={"retry-after": str(wait)})
            failed.add(address)
            return _form(request, destination, error)
        response = see_other(destination)
        set_cookie(response, session, secure=request.url.scheme == "https", lifetime=lifetime)
        return response

    @needs()
    async def leave(request: Request) -> Response:
        await read_signed_form(request, engine=service.engine)
        await run_in_threadpool(sign_out, request, engine=service.engine)
        response = see_other(SIGN_IN)
        delete_cookie(response)
        return response

    return [
        Route("/sign-in", show, methods=["GET"]),
        Route("/sign-in", submit, methods=["POST"]),
        Route("/sign-out", leave, methods=["POST"]),
    ]


def _form(
    request: Request,
    destination: str,
    error: DashboardError | None = None,
    *,
    headers: dict[str, str] | None = None,
) -> Response:
    context = {"title": "Sign in", "next": destination, "problem": str(error) if error else None}
    theme = theme_of(request.cookies)
    response = render("sign_in.html.j2", context, status=error.status if error else 200, theme=theme)
    response.headers.update(headers or {})
    return response

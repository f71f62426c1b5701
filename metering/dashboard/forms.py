"""Forms: their routes, their fields, read within a size limit, and proof that they come from our own page."""

import hmac
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qsl

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.dashboard.access import needs
from metering.dashboard.errors import InvalidFormError, NotAllowedError
from metering.dashboard.sessions import Viewer, viewer_of
from metering.server.bootstrap import Service

Form = dict[str, str]
FormHandler = Callable[[Service, Request, Viewer, Form], Response]
_MAX_BODY = 16 * 1024
_MAX_SHOWN = 80
_TOKEN_FIELD = "token"

HOME = "/dashboard/"


def form_routes(service: Service, handlers: Mapping[str, FormHandler], *scopes: Scope) -> list[Route]:
    """The routes of signed forms. `handlers` are by path; each runs in a thread, for a key that has the scopes."""
    return [_form_route(service, path, handler, scopes) for path, handler in handlers.items()]


def _form_route(service: Service, path: str, handler: FormHandler, scopes: tuple[Scope, ...]) -> Route:
    @needs(*scopes)
    async def endpoint(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(handler, service, request, viewer, form)

    return Route(path, endpoint, methods=["POST"])


@contextmanager
def said_on_page(*errors: type[MeteringError]) -> Iterator[None]:
    """Errors of these kinds are the form's: the page that answers says them.

    Raises:
        InvalidFormError: one of them was raised within.
    """
    try:
        yield
    except errors as error:
        raise InvalidFormError(str(error)) from error


def once_key(form: Form) -> str:
    """The idempotency key of a form: sent twice, it books once.

    Raises:
        InvalidFormError: it is not the form of the page.
    """
    once = form.get("once", "")
    if not 16 <= len(once) <= 64:
        raise InvalidFormError("once: send the form of the page")
    return f"dashboard {once}"


def own_page(address: str | None) -> str:
    """Where to go after a form: a page of the dashboard, never another site."""
    if address is None or not address.startswith(HOME):
        return HOME
    return HOME if any(character in address for character in "\\\r\n\t") else address


async def read_form(request: Request) -> Form:
    """The fields of a form; the first one where a name repeats.

    Raises:
        NotAllowedError: another site's page sent it.
        InvalidFormError: it is not a form, too long, or has text with NUL.
    """
    _check_origin(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise InvalidFormError("expected a form with content type application/x-www-form-urlencoded")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise InvalidFormError(f"the form is longer than {_MAX_BODY // 1024} KiB")
    fields: Form = {}
    for name, value in parse_qsl(body.decode(errors="replace"), keep_blank_values=True):
        if "\0" in value:  # PostgreSQL's text cannot hold it
            raise InvalidFormError(f"{name[:_MAX_SHOWN]}: contains NUL, which no text here may")
        fields.setdefault(name, value)
    return fields


async def read_signed_form(request: Request, *, engine: Engine) -> tuple[Viewer, Form]:
    """The viewer, whose key has the scope, and the fields of a form that carries the token of the session.

    Raises:
        SignedOutError: the request has no valid session.
        NotAllowedError: another site's page sent it, its token is missing or of another session, or the key does
            not have the scope.
        InvalidFormError: it is not a form, or too long.
    """
    form = await read_form(request)
    viewer = await run_in_threadpool(viewer_of, request, engine=engine, now=utc_now())
    if not hmac.compare_digest(viewer.token.encode(), form.get(_TOKEN_FIELD, "").encode()):
        raise NotAllowedError("the form belongs to another session: reload the page and try again")
    return viewer, form


def _check_origin(request: Request) -> None:
    # Browsers name the origin of a form: https://www.w3.org/TR/fetch-metadata/, and Origin in older ones.
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    ours = origin is None or origin.partition("://")[2] == request.headers.get("host")
    if site not in ("same-origin", "none") or not ours:
        raise NotAllowedError("the form was sent from another site: open the dashboard itself and try again")

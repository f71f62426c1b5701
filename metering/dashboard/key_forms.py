"""The forms of the keys page: create, rotate, limit and revoke a key. Only the answer to a form has a secret."""

from collections.abc import Callable
from dataclasses import fields
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metering.access.keys import KeyLimits, UnknownKeyError
from metering.access.manage_access import (
    InvalidOverlapError,
    KeyBindingError,
    KeyNotActiveError,
    NewKey,
    ScopeExceededError,
    issue_key,
    limit_key,
    revoke_key,
    rotate_key,
)
from metering.access.scopes import InvalidScopeError, Role, Scope
from metering.core.clock import utc_now
from metering.dashboard.access import needs
from metering.dashboard.errors import InvalidFormError, NotAllowedError
from metering.dashboard.forms import read_signed_form
from metering.dashboard.links import link
from metering.dashboard.page_rendering import open_page_request, render_page
from metering.dashboard.pages.keys import ShownSecret, keys_page
from metering.dashboard.rendering import HEADERS
from metering.dashboard.sessions import Viewer
from metering.server.bootstrap import Service

Form = dict[str, str]
ResultT = TypeVar("ResultT")
_MAX_TEXT = 256
_MAX_DIGITS = 9


def key_form_routes(service: Service) -> list[Route]:
    """The routes that receive the forms of the keys page."""

    @needs(Scope.KEYS_READ, Scope.KEYS_WRITE)
    async def create(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_create, service, request, viewer, form)

    @needs(Scope.KEYS_READ, Scope.KEYS_WRITE)
    async def rotate(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_rotate, service, request, viewer, form)

    @needs(Scope.KEYS_READ, Scope.KEYS_WRITE)
    async def revoke(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_revoke, service, viewer, form)

    @needs(Scope.KEYS_READ, Scope.KEYS_WRITE)
    async def limit(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_limit, service, viewer, form)

    endpoints = {"create": create, "rotate": rotate, "revoke": revoke, "limit": limit}
    return [Route(f"/keys/{name}", endpoint, methods=["POST"]) for name, endpoint in endpoints.items()]


def _create(service: Service, request: Request, viewer: Viewer, form: Form) -> Response:
    if form.get("role") not in set(Role):
        raise InvalidFormError(f"role: one of {', '.join(Role)}")
    new = NewKey(
        role=Role(form["role"]),
        name=_text(form, "name") or form["role"],
        scopes=(_text(form, "scopes", longest=1_000) or "").replace(",", " ").split(),
        customer_id=_text(form, "customer_id", longest=128),
        source=_text(form, "source"),
        expires_at=_day(form),
    )
    key, secret = _done(
        lambda: issue_key(engine=service.engine, new=new, by=viewer.actor, now=utc_now(), within=viewer.key.scopes)
    )
    return _show(service, request, ShownSecret(key.key_id, str(secret), "created"))


def _rotate(service: Service, request: Request, viewer: Viewer, form: Form) -> Response:
    hours = form.get("overlap_hours", "")
    if not hours.isdecimal() or len(hours) > 4:
        raise InvalidFormError(f"overlap_hours: expected a number of hours, got {hours[:20]!r}")
    key_id = _key_id(form)
    if key_id == viewer.key.key_id and not int(hours):
        raise InvalidFormError(
            "overlap_hours: at least 1 for the key that you signed in with: its sessions would end"
        )
    key, secret = _done(
        lambda: rotate_key(
            engine=service.engine,
            key_id=key_id,
            overlap=timedelta(hours=int(hours)),
            by=viewer.actor,
            now=utc_now(),
            within=viewer.key.scopes,
        )
    )
    return _show(service, request, ShownSecret(key.key_id, str(secret), "rotated"))


def _revoke(service: Service, viewer: Viewer, form: Form) -> Response:
    key_id = _key_id(form)
    if form.get("confirm", "").strip() != key_id:
        raise InvalidFormError(f"confirm: type the id of the key, {key_id}, to revoke it")
    scopes = viewer.key.scopes
    _done(lambda: revoke_key(engine=service.engine, key_id=key_id, by=viewer.actor, now=utc_now(), within=scopes))
    return RedirectResponse(link("keys", revoked=key_id), status_code=303, headers=HEADERS)


def _limit(service: Service, viewer: Viewer, form: Form) -> Response:
    key_id = _key_id(form)
    changes = {field.name: _number(form, field.name) for field in fields(KeyLimits)}
    _done(
        lambda: limit_key(
            engine=service.engine,
            key_id=key_id,
            changes=changes,
            by=viewer.actor,
            now=utc_now(),
            within=viewer.key.scopes,
        )
    )
    return RedirectResponse(link("keys", limited=key_id), status_code=303, headers=HEADERS)


def _number(form: Form, name: str) -> int | None:
    """A whole number from 1 on; None for an empty field."""
    given = _text(form, name)
    if given is None:
        return None
    if not given.isdecimal() or not 1 <= len(given) <= _MAX_DIGITS or not int(given):
        raise InvalidFormError(f"{name}: expected a whole number from 1, or nothing, got {given[:20]!r}")
    return int(given)


def _done(act: Callable[[], ResultT]) -> ResultT:
    try:
        return act()
    except (InvalidScopeError, InvalidOverlapError, KeyBindingError, KeyNotActiveError, UnknownKeyError) as error:
        raise InvalidFormError(str(error)) from error
    except ScopeExceededError as error:
        raise NotAllowedError(str(error)) from error


def _show(service: Service, request: Request, shown: ShownSecret) -> Response:
    with open_page_request(service, request) as wanted:
        return render_page(wanted, keys_page(wanted, shown=shown), here=link("keys"))


def _key_id(form: Form) -> str:
    return _text(form, "key_id", longest=128) or ""


def _text(form: Form, name: str, *, longest: int = _MAX_TEXT) -> str | None:
    value = form.get(name, "").strip()
    if len(value) > longest:
        raise InvalidFormError(f"{name}: at most {longest} characters")
    return value or None


def _day(form: Form) -> datetime | None:
    given = _text(form, "expires_on")
    if given is None:
        return None
    try:
        day = datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidFormError(f"expires_on: expected a date such as 2027-01-31, got {given!r}") from error
    if day.year == MAXYEAR:
        raise InvalidFormError(f"expires_on: expected a date before the year {MAXYEAR}")
    return day

"""The forms of the keys page: create, rotate, limit and revoke a key. Only the answer to a form has a secret."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response
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
from metering.dashboard.errors import InvalidFormError, NotAllowedError
from metering.dashboard.fields import day, text
from metering.dashboard.forms import Form, form_routes, said_on_page
from metering.dashboard.links import link
from metering.dashboard.page_rendering import open_page_request, render_page
from metering.dashboard.pages.keys import ShownSecret, keys_page
from metering.dashboard.rendering import see_other
from metering.dashboard.sessions import Viewer
from metering.server.bootstrap import Service

_MAX_TEXT = 256
_MAX_DIGITS = 9


def key_form_routes(service: Service) -> list[Route]:
    """The routes that receive the forms of the keys page."""
    handlers = {
        "/keys/create": _create,
        "/keys/rotate": _rotate,
        "/keys/revoke": _revoke,
        "/keys/limit": _limit,
    }
    return form_routes(service, handlers, Scope.KEYS_READ, Scope.KEYS_WRITE)


def _create(service: Service, request: Request, viewer: Viewer, form: Form) -> Response:
    if form.get("role") not in set(Role):
        raise InvalidFormError(f"role: one of {', '.join(Role)}")
    new = NewKey(
        role=Role(form["role"]),
        name=_text(form, "name") or form["role"],
        scopes=(_text(form, "scopes", longest=1_000) or "").replace(",", " ").split(),
        customer_id=_text(form, "customer_id", longest=128),
        source=_text(form, "source"),
        expires_at=day(form, "expires_on"),
    )
    with key_refusals():
        key, secret = issue_key(
            engine=service.engine, new=new, by=viewer.actor, now=utc_now(), within=viewer.key.scopes
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
    with key_refusals():
        key, secret = rotate_key(
            engine=service.engine,
            key_id=key_id,
            overlap=timedelta(hours=int(hours)),
            by=viewer.actor,
            now=utc_now(),
            within=viewer.key.scopes,
        )
    return _show(service, request, ShownSecret(key.key_id, str(secret), "rotated"))


def _revoke(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    key_id = _key_id(form)
    if form.get("confirm", "").strip() != key_id:
        raise InvalidFormError(f"confirm: type the id of the key, {key_id}, to revoke it")
    scopes = viewer.key.scopes
    with key_refusals():
        revoke_key(engine=service.engine, key_id=key_id, by=viewer.actor, now=utc_now(), within=scopes)
    return see_other(link("keys", revoked=key_id))


def _limit(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    key_id = _key_id(form)
    changes = {field.name: _number(form, field.name) for field in fields(KeyLimits)}
    with key_refusals():
        limit_key(
            engine=service.engine,
            key_id=key_id,
            changes=changes,
            by=viewer.actor,
            now=utc_now(),
            within=viewer.key.scopes,
        )
    return see_other(link("keys", limited=key_id))


def _number(form: Form, name: str) -> int | None:
    """A whole number from 1 on; None for an empty field."""
    given = _text(form, name)
    if given is None:
        return None
    if not given.isdecimal() or not 1 <= len(given) <= _MAX_DIGITS or not int(given):
        raise InvalidFormError(f"{name}: expected a whole number from 1, or nothing, got {given[:20]!r}")
    return int(given)


@contextmanager
def key_refusals() -> Iterator[None]:
    """Why a key cannot be made or changed, as errors of the page.

    Raises:
        InvalidFormError: the form is wrong; the message says how.
        NotAllowedError: the key would have a scope that the viewer's own does not have.
    """
    try:
        with said_on_page(
            InvalidScopeError, InvalidOverlapError, KeyBindingError, KeyNotActiveError, UnknownKeyError
        ):
            yield
    except ScopeExceededError as error:
        raise NotAllowedError(str(error)) from error


def _show(service: Service, request: Request, shown: ShownSecret) -> Response:
    with open_page_request(service, request) as wanted:
        return render_page(wanted, keys_page(wanted, shown=shown), here=link("keys"))


def _key_id(form: Form) -> str:
    return _text(form, "key_id", longest=128) or ""


def _text(form: Form, name: str, *, longest: int = _MAX_TEXT) -> str | None:
    return text(form, name, longest=longest) or None

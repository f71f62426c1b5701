"""The forms of the credits pages: make a grant, void it, refund it."""

from collections.abc import Callable
from datetime import MAXYEAR, UTC, datetime
from decimal import Decimal
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.access.store.idempotency import IdempotencyKeyReusedError, RequestInFlightError
from metering.core.clock import utc_now
from metering.core.money import EXACT
from metering.credits.create_grant import TooManyGrantsError, create_grant
from metering.credits.end_grant import GrantNotActiveError, UnknownGrantError, refund_grant, void_grant
from metering.credits.grant import Funding, GrantLimits
from metering.credits.terms import GrantTerms, InvalidGrantError
from metering.customers.store import UnknownCustomerError
from metering.dashboard.access import needs
from metering.dashboard.errors import InvalidFormError
from metering.dashboard.forms import read_signed_form
from metering.dashboard.links import link
from metering.dashboard.rendering import HEADERS
from metering.dashboard.sessions import Viewer
from metering.dashboard.values import money
from metering.server.bootstrap import Service

Form = dict[str, str]
ResultT = TypeVar("ResultT")
_MAX_TEXT, _MOST_PLACES = 500, 12


def credit_form_routes(service: Service) -> list[Route]:
    """The routes that receive the forms."""

    @needs(Scope.CREDITS_READ, Scope.CREDITS_WRITE)
    async def create(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_create, service, viewer, form)

    @needs(Scope.CREDITS_READ, Scope.CREDITS_WRITE)
    async def void(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_void, service, viewer, form)

    @needs(Scope.CREDITS_READ, Scope.CREDITS_WRITE)
    async def refund(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_refund, service, viewer, form)

    endpoints = {"credits/create": create, "grant/void": void, "grant/refund": refund}
    return [Route(f"/{path}", endpoint, methods=["POST"]) for path, endpoint in endpoints.items()]


def _create(service: Service, viewer: Viewer, form: Form) -> Response:
    if form.get("funding") not in set(Funding):
        raise InvalidFormError(f"funding: one of {', '.join(Funding)}")
    models = [each.strip() for each in form.get("models", "").split(",") if each.strip()]
    terms = GrantTerms(
        customer_id=_text(form, "customer_id"),
        amount_usd_cents=_cents(form, "usd"),
        paid_usd_cents=_cents(form, "paid_usd"),
        funding=Funding(form["funding"]),
        reason=_text(form, "reason"),
        priority=_number(form, "priority"),
        expires_at=_day(form, "expires"),
        limits=GrantLimits(models=tuple(models)),
    )
    made = _done(
        lambda: create_grant(
            engine=service.engine,
            idempotency_key=f"dashboard {_once(form)}",
            terms=terms,
            by=viewer.actor,
            now=utc_now(),
        )
    )
    return _to("grant", grant_id=made.grant_id, done=f"Grant {made.grant_id} made.")


def _void(service: Service, viewer: Viewer, form: Form) -> Response:
    grant_id = _text(form, "grant_id")
    if form.get("confirm", "").strip() != grant_id:
        raise InvalidFormError("confirm: type the id of the grant to void it")
    reason = _text(form, "reason")
    _done(
        lambda: void_grant(engine=service.engine, grant_id=grant_id, reason=reason, by=viewer.actor, now=utc_now())
    )
    return _to("grant", grant_id=grant_id, done=f"Grant {grant_id} voided.")


def _refund(service: Service, viewer: Viewer, form: Form) -> Response:
    grant_id, reason = _text(form, "grant_id"), _text(form, "reason")
    amount = _cents(form, "usd") if form.get("usd", "").strip() else None
    entry = _done(
        lambda: refund_grant(
            engine=service.engine,
            idempotency_key=f"dashboard {_once(form)}",
            grant_id=grant_id,
            usd_cents=amount,
            reason=reason,
            by=viewer.actor,
            now=utc_now(),
        )
    )
    credit, price = money(entry.usd_cents.copy_abs()), money(Decimal(entry.released_cents))
    return _to("grant", grant_id=grant_id, done=f"{credit} of credit refunded: pay back {price}.")


def _done(change: Callable[[], ResultT]) -> ResultT:
    """The result of a change; what the form cannot do is said on its page."""
    try:
        return change()
    except (
        InvalidGrantError,
        UnknownGrantError,
        GrantNotActiveError,
        TooManyGrantsError,
        UnknownCustomerError,
        IdempotencyKeyReusedError,
        RequestInFlightError,
    ) as error:
        raise InvalidFormError(str(error)) from error


def _to(path: str, **filters: str) -> Response:
    return RedirectResponse(link(path, **filters), status_code=303, headers=HEADERS)


def _text(form: Form, name: str) -> str:
    value = form.get(name, "").strip()
    if not value or len(value) > _MAX_TEXT:
        raise InvalidFormError(f"{name}: required, at most {_MAX_TEXT} characters")
    return value


def _once(form: Form) -> str:
    once = form.get("once", "")
    if not 16 <= len(once) <= 64:
        raise InvalidFormError("once: send the form of the page")
    return once


def _cents(form: Form, name: str) -> Decimal:
    """An amount in dollars as people write it: `100`, `10.50`, `$1,000`."""
    plain = form.get(name, "").strip().replace("$", "").replace(",", "")
    whole, _, places = plain.partition(".")
    digits = whole + places
    if not digits.isascii() or not digits.isdigit() or len(whole) > 13 or len(places) > _MOST_PLACES:
        raise InvalidFormError(f"{name}: expected an amount in dollars such as 120.00, got {plain[:40]!r}")
    return EXACT.scaleb(Decimal(plain), 2)


def _number(form: Form, name: str) -> int:
    value = form.get(name, "").strip()
    if not value.isascii() or not value.isdigit() or len(value) > 4:
        raise InvalidFormError(f"{name}: expected a number, got {value[:20]!r}")
    return int(value)


def _day(form: Form, name: str) -> datetime | None:
    value = form.get(name, "").strip()
    if not value:
        return None
    try:
        day = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidFormError(f"{name}: expected a date such as 2027-12-01, got {value[:20]!r}") from error
    if day.year >= MAXYEAR:
        raise InvalidFormError(f"{name}: expected a year before {MAXYEAR}")
    return day

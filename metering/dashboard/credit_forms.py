"""The forms of the credits pages: make a grant, void it, refund it."""

from decimal import Decimal

from starlette.requests import Request
from starlette.responses import Response
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
from metering.dashboard.errors import InvalidFormError
from metering.dashboard.fields import day, required_text
from metering.dashboard.forms import Form, form_routes, once_key, said_on_page
from metering.dashboard.links import link
from metering.dashboard.rendering import see_other
from metering.dashboard.sessions import Viewer
from metering.dashboard.values import money
from metering.server.bootstrap import Service

_MAX_TEXT, _MOST_PLACES = 500, 12
_REFUSED = (
    InvalidGrantError,
    UnknownGrantError,
    GrantNotActiveError,
    TooManyGrantsError,
    UnknownCustomerError,
    IdempotencyKeyReusedError,
    RequestInFlightError,
)


def credit_form_routes(service: Service) -> list[Route]:
    """The routes that receive the forms."""
    handlers = {"/credits/create": _create, "/grant/void": _void, "/grant/refund": _refund}
    return form_routes(service, handlers, Scope.CREDITS_READ, Scope.CREDITS_WRITE)


def _create(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
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
        expires_at=day(form, "expires"),
        limits=GrantLimits(models=tuple(models)),
    )
    with said_on_page(*_REFUSED):
        made = create_grant(
            engine=service.engine, idempotency_key=once_key(form), terms=terms, by=viewer.actor, now=utc_now()
        )
    return _to("grant", grant_id=made.grant_id, done=f"Grant {made.grant_id} made.")


def _void(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    grant_id = _text(form, "grant_id")
    if form.get("confirm", "").strip() != grant_id:
        raise InvalidFormError("confirm: type the id of the grant to void it")
    reason = _text(form, "reason")
    with said_on_page(*_REFUSED):
        void_grant(engine=service.engine, grant_id=grant_id, reason=reason, by=viewer.actor, now=utc_now())
    return _to("grant", grant_id=grant_id, done=f"Grant {grant_id} voided.")


def _refund(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    grant_id, reason = _text(form, "grant_id"), _text(form, "reason")
    amount = _cents(form, "usd") if form.get("usd", "").strip() else None
    with said_on_page(*_REFUSED):
        entry = refund_grant(
            engine=service.engine,
            idempotency_key=once_key(form),
            grant_id=grant_id,
            usd_cents=amount,
            reason=reason,
            by=viewer.actor,
            now=utc_now(),
        )
    credit, price = money(entry.usd_cents.copy_abs()), money(Decimal(entry.released_cents))
    return _to("grant", grant_id=grant_id, done=f"{credit} of credit refunded: pay back {price}.")


def _to(path: str, **filters: str) -> Response:
    return see_other(link(path, **filters))


def _text(form: Form, name: str) -> str:
    return required_text(form, name, longest=_MAX_TEXT)


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

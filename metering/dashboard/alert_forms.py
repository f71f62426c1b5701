"""The forms of alerts: create, change, mute and delete one. Errors come back beside their field."""

from collections.abc import Mapping
from decimal import Decimal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.alerts.alerts import (
    MAX_NAME,
    MAX_THRESHOLDS,
    MAX_TRAILING_DAYS,
    AlertKind,
    AlertScope,
    AlertTerms,
    InvalidAlertError,
)
from metering.alerts.manage_alerts import (
    AlertChanges,
    TooManyAlertsError,
    change_alert,
    create_alert,
    delete_alert,
)
from metering.alerts.queries.alerts import find_alert
from metering.alerts.store.alerts import UnknownAlertError
from metering.core.clock import utc_now
from metering.core.money import EXACT
from metering.customers.store import UnknownCustomerError
from metering.dashboard.errors import InvalidFormError, NotFoundError
from metering.dashboard.fields import FieldError, cents, number, numbers, refused, text, whole_number
from metering.dashboard.forms import Form, form_routes
from metering.dashboard.links import link
from metering.dashboard.page_rendering import open_page_request, render_page
from metering.dashboard.pages.alert import alert_page, fields_of, new_alert_page
from metering.dashboard.pages.alerts import IN_DOLLARS
from metering.dashboard.rendering import see_other
from metering.dashboard.sessions import Viewer
from metering.db.engine import transaction
from metering.server.bootstrap import Service

_FIELDS = ("name", "scope", "customer_id", "thresholds", "budget", "minimum", "trailing_days")
# What the rules call the fields of the form.
_NAMES = {"budget_usd_cents": "budget", "floor_usd_cents": "minimum"}
_REFUSED = (InvalidAlertError, InvalidFormError, UnknownCustomerError, TooManyAlertsError)


def alert_form_routes(service: Service) -> list[Route]:
    """The routes that receive the forms of alerts."""
    create = {"/alert/create": _create}
    handlers = {"/alert/change": _change, "/alert/mute": _mute, "/alert/delete": _delete}
    needed = (Scope.ALERTS_READ, Scope.ALERTS_WRITE)
    return [*form_routes(service, create, *needed, Scope.CUSTOMERS_READ), *form_routes(service, handlers, *needed)]


def _create(service: Service, request: Request, viewer: Viewer, form: Form) -> Response:
    kind = form.get("kind", "")
    if kind not in set(AlertKind):
        raise InvalidFormError(f"kind: one of {', '.join(AlertKind)}")
    try:
        terms = _terms(AlertKind(kind), form)
        name = text(form, "name", longest=MAX_NAME)
        alert = create_alert(engine=service.engine, name=name, terms=terms, created_by=viewer.actor, now=utc_now())
    except _REFUSED as error:
        state = refused(error, form, fields=_FIELDS, names=_NAMES)
        with open_page_request(service, request) as wanted:
            return render_page(wanted, new_alert_page(wanted, kind, state), here=link("alert/new"), status=422)
    return see_other(link("alert", alert_id=alert.alert_id, done="created"))


def _terms(kind: AlertKind, form: Form) -> AlertTerms:
    scope = form.get("scope", "")
    if scope not in set(AlertScope):
        raise FieldError("scope", "choose one")
    customer_id = text(form, "customer_id", longest=128)
    if scope == AlertScope.CUSTOMER and not customer_id:
        raise FieldError("customer_id", "choose a customer, or another scope")
    return AlertTerms(
        kind=kind,
        scope=AlertScope(scope),
        customer_id=customer_id if scope == AlertScope.CUSTOMER else None,
        thresholds=_thresholds(kind, form),
        budget_usd_cents=cents(number(form, "budget")),
        floor_usd_cents=cents(number(form, "minimum")),
        trailing_days=whole_number(form, "trailing_days", least=1, most=MAX_TRAILING_DAYS),
    )


def _thresholds(kind: AlertKind, form: Mapping[str, str]) -> tuple[Decimal, ...]:
    scale = 2 if kind in IN_DOLLARS else 0
    return tuple(EXACT.scaleb(each, scale) for each in numbers(form, "thresholds", most=MAX_THRESHOLDS))


def _change(service: Service, request: Request, viewer: Viewer, form: Form) -> Response:
    alert_id = _alert_id(form)
    with transaction(service.engine) as connection:
        alert = find_alert(connection, alert_id=alert_id)
    if alert is None:
        raise NotFoundError(f"there is no alert {alert_id!r}")
    try:
        for name in fields_of(alert.terms.kind):
            if not form.get(name, "").strip():
                raise FieldError(name, "required")
        changes = AlertChanges(
            name=text(form, "name", longest=MAX_NAME),
            thresholds=_thresholds(alert.terms.kind, form),
            budget_usd_cents=cents(number(form, "budget")),
            floor_usd_cents=cents(number(form, "minimum")),
            trailing_days=whole_number(form, "trailing_days", least=1, most=MAX_TRAILING_DAYS),
        )
        change_alert(engine=service.engine, alert_id=alert_id, changes=changes, by=viewer.actor, now=utc_now())
    except UnknownAlertError as error:
        raise NotFoundError(str(error)) from error
    except _REFUSED as error:
        state = refused(error, form, fields=_FIELDS, names=_NAMES)
        with open_page_request(service, request) as wanted:
            asked = wanted.asking(alert_id=alert_id)
            return render_page(asked, alert_page(asked, alert_id, state), here=link("alert"), status=422)
    return see_other(link("alert", alert_id=alert_id, done="changed"))


def _mute(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    alert_id, enabled = _alert_id(form), form.get("enabled") == "yes"
    changes = AlertChanges(enabled=enabled)
    try:
        change_alert(engine=service.engine, alert_id=alert_id, changes=changes, by=viewer.actor, now=utc_now())
    except UnknownAlertError as error:
        raise NotFoundError(str(error)) from error
    return see_other(link("alert", alert_id=alert_id, done="unmuted" if enabled else "muted"))


def _delete(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    alert_id = _alert_id(form)
    if form.get("confirm") != "yes":
        raise InvalidFormError("confirm: tick the box to delete the alert")
    try:
        delete_alert(engine=service.engine, alert_id=alert_id, by=viewer.actor, now=utc_now())
    except UnknownAlertError as error:
        raise NotFoundError(str(error)) from error
    return see_other(link("alerts", deleted=alert_id))


def _alert_id(form: Form) -> str:
    return text(form, "alert_id", longest=128)

"""The forms of webhook endpoints: create, change, pause, rotate, test, replay, delete. A secret is shown once."""

from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.alerts.addresses import InvalidUrlError
from metering.alerts.manage_endpoints import (
    MAX_DESCRIPTION,
    MAX_OVERLAP,
    TYPES,
    EndpointChanges,
    InvalidEndpointError,
    TooManyEndpointsError,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    rotate_endpoint_secret,
)
from metering.alerts.replay_webhooks import EndpointDisabledError, replay_delivery, replay_failed
from metering.alerts.send_webhooks import try_endpoint
from metering.alerts.store.deliveries import UnknownDeliveryError
from metering.alerts.store.endpoints import UnknownEndpointError
from metering.core.clock import utc_now
from metering.dashboard.errors import InvalidFormError, NotFoundError
from metering.dashboard.fields import FormState, refused, text, whole_number
from metering.dashboard.forms import Form, FormHandler, form_routes, said_on_page
from metering.dashboard.links import link
from metering.dashboard.page_rendering import open_page_request, render_page
from metering.dashboard.pages.webhook import NewSecret, new_webhook_page, type_field, webhook_page
from metering.dashboard.rendering import see_other
from metering.dashboard.sessions import Viewer
from metering.server.bootstrap import Service
from metering.server.outgoing import build_webhook_sender

_FIELDS = ("url", "description")
_LONGEST_URL = 2048
_REFUSED = (InvalidUrlError, InvalidEndpointError, TooManyEndpointsError, InvalidFormError)


def webhook_form_routes(service: Service) -> list[Route]:
    """The routes that receive the forms of webhook endpoints."""
    handlers: dict[str, FormHandler] = {
        "/webhook/create": _create,
        "/webhook/change": _change,
        "/webhook/pause": _pause,
        "/webhook/rotate": _rotate,
        "/webhook/test": _test,
        "/webhook/replay": _replay,
        "/webhook/delete": _delete,
    }
    known = {path: _known(handler) for path, handler in handlers.items()}
    return form_routes(service, known, Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE)


def _known(handler: FormHandler) -> FormHandler:
    """The same; what does not exist is answered with 404."""

    def handle(service: Service, request: Request, viewer: Viewer, form: Form) -> Response:
        try:
            return handler(service, request, viewer, form)
        except (UnknownEndpointError, UnknownDeliveryError) as error:
            raise NotFoundError(str(error)) from error

    return handle


def _create(service: Service, request: Request, viewer: Viewer, form: Form) -> Response:
    try:
        endpoint, secret = create_endpoint(
            engine=service.engine,
            url=text(form, "url", longest=_LONGEST_URL),
            description=text(form, "description", longest=MAX_DESCRIPTION),
            types=_types(form),
            allow_private=service.settings.webhooks_allow_private,
            created_by=viewer.actor,
            now=utc_now(),
        )
    except _REFUSED as error:
        state = refused(error, form, fields=_FIELDS, names={})
        with open_page_request(service, request) as wanted:
            return render_page(wanted, new_webhook_page(state), here=link("webhook/new"), status=422)
    says = f"Endpoint {endpoint.endpoint_id} is created. The secret that signs its messages"
    return _shown(service, request, endpoint.endpoint_id, NewSecret(secret, says))


def _shown(service: Service, request: Request, endpoint_id: str, new_secret: NewSecret) -> Response:
    """The page with a secret: only this answer has it."""
    with open_page_request(service, request) as wanted:
        asked = wanted.asking(endpoint_id=endpoint_id)
        page = webhook_page(asked, endpoint_id, FormState(), new_secret=new_secret)
        return render_page(asked, page, here=link("webhook"))


def _change(service: Service, request: Request, viewer: Viewer, form: Form) -> Response:
    endpoint_id = _endpoint_id(form)
    try:
        changes = EndpointChanges(
            url=text(form, "url", longest=_LONGEST_URL),
            description=text(form, "description", longest=MAX_DESCRIPTION),
            types=_types(form),
        )
        change_endpoint(
            engine=service.engine,
            endpoint_id=endpoint_id,
            changes=changes,
            allow_private=service.settings.webhooks_allow_private,
            changed_by=viewer.actor,
            now=utc_now(),
        )
    except _REFUSED as error:
        state = refused(error, form, fields=_FIELDS, names={})
        with open_page_request(service, request) as wanted:
            asked = wanted.asking(endpoint_id=endpoint_id)
            return render_page(asked, webhook_page(asked, endpoint_id, state), here=link("webhook"), status=422)
    return _to(endpoint_id, done="changed")


def _pause(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    endpoint_id, enabled = _endpoint_id(form), form.get("enabled") == "yes"
    change_endpoint(
        engine=service.engine,
        endpoint_id=endpoint_id,
        changes=EndpointChanges(enabled=enabled),
        allow_private=service.settings.webhooks_allow_private,
        changed_by=viewer.actor,
        now=utc_now(),
    )
    return _to(endpoint_id, done="resumed" if enabled else "paused")


def _rotate(service: Service, request: Request, viewer: Viewer, form: Form) -> Response:
    endpoint_id = _endpoint_id(form)
    hours = whole_number(form, "overlap_hours", least=0, most=MAX_OVERLAP // timedelta(hours=1))
    if hours is None:
        raise InvalidFormError("overlap_hours: required")
    overlap, now = timedelta(hours=hours), utc_now()
    secret = rotate_endpoint_secret(
        engine=service.engine, endpoint_id=endpoint_id, overlap=overlap, by=viewer.actor, now=now
    )
    until = f"signs as well until {now + overlap:%Y-%m-%d %H:%M} UTC" if hours else "has ended"
    return _shown(service, request, endpoint_id, NewSecret(secret, f"The old secret {until}. The new one"))


def _test(service: Service, _: Request, __: Viewer, form: Form) -> Response:
    endpoint_id = _endpoint_id(form)
    delivery = try_endpoint(sender=build_webhook_sender(service), endpoint_id=endpoint_id)
    return _to(endpoint_id, tested=delivery.delivery_id)


def _replay(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    """One missed delivery, or all since a day."""
    endpoint_id, delivery_id = _endpoint_id(form), text(form, "delivery_id", longest=128)
    now = utc_now()
    with said_on_page(EndpointDisabledError):
        if delivery_id:
            replay_delivery(engine=service.engine, delivery_id=delivery_id, by=viewer.actor, now=now)
            return _to(endpoint_id, replayed="1")
        since = _day(form)
        count = replay_failed(
            engine=service.engine, endpoint_id=endpoint_id, since=since, by=viewer.actor, now=now
        )
    return _to(endpoint_id, replayed=str(count))


def _delete(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    endpoint_id = _endpoint_id(form)
    if form.get("confirm") != "yes":
        raise InvalidFormError("confirm: tick the box to delete the destination")
    delete_endpoint(engine=service.engine, endpoint_id=endpoint_id, by=viewer.actor, now=utc_now())
    return see_other(link("alerts", deleted=endpoint_id))


def _types(form: Form) -> list[str]:
    """The types that are ticked; none means all."""
    return [each for each in TYPES if form.get(type_field(each)) == "yes"]


def _day(form: Form) -> datetime:
    given = text(form, "since", longest=10)
    try:
        return datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidFormError(f"since: expected a date such as 2026-11-23, got {given!r}") from error


def _endpoint_id(form: Form) -> str:
    return text(form, "endpoint_id", longest=128)


def _to(endpoint_id: str, **done: str) -> Response:
    return see_other(link("webhook", endpoint_id=endpoint_id, **done))

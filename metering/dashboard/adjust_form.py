"""The form that books a credit or a correction, after its page has shown what it books."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.access.store.idempotency import IdempotencyKeyReusedError, RequestInFlightError
from metering.core.clock import utc_now
from metering.corrections.adjust_manually import InvalidAdjustmentError, adjust_manually
from metering.customers.store import UnknownCustomerError
from metering.dashboard.forms import Form, form_routes, once_key, said_on_page
from metering.dashboard.links import link
from metering.dashboard.pages.adjust import FIELDS, draft_of
from metering.dashboard.rendering import see_other
from metering.dashboard.sessions import Viewer
from metering.ledger.store.open_periods import UnusableTimeZoneError
from metering.server.bootstrap import Service


def adjust_form_routes(service: Service) -> list[Route]:
    """The route that receives the form."""
    return form_routes(service, {"/adjust/book": _book}, Scope.CORRECTIONS_WRITE)


def _book(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    draft = draft_of({name: form.get(name, "") for name in FIELDS})
    with said_on_page(
        InvalidAdjustmentError,
        UnknownCustomerError,
        UnusableTimeZoneError,
        IdempotencyKeyReusedError,
        RequestInFlightError,
    ):
        booked = adjust_manually(
            engine=service.engine,
            idempotency_key=once_key(form),
            customer_id=draft.customer_id,
            stream_id=draft.stream_id,
            kind=draft.kind,
            usd_cents=draft.usd_cents,
            reason=draft.reason,
            booked_by=viewer.actor,
            now=utc_now(),
        )
    done = link("customer", customer_id=draft.customer_id, booked=booked.adjustment_id)
    return see_other(f"{done}#adjustments")

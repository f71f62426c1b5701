"""The form that books a credit or a correction, after its page has shown what it books."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.access.store.idempotency import IdempotencyKeyReusedError, RequestInFlightError
from metering.core.clock import utc_now
from metering.corrections.adjust_manually import InvalidAdjustmentError, adjust_manually
from metering.customers.store import UnknownCustomerError
from metering.dashboard.access import needs
from metering.dashboard.errors import InvalidFormError
from metering.dashboard.forms import read_signed_form
from metering.dashboard.links import link
from metering.dashboard.pages.adjust import FIELDS, draft_of
from metering.dashboard.rendering import HEADERS
from metering.dashboard.sessions import Viewer
from metering.ledger.store.open_periods import UnusableTimeZoneError
from metering.server.bootstrap import Service


def adjust_form_routes(service: Service) -> list[Route]:
    """The route that receives the form."""

    @needs(Scope.CORRECTIONS_WRITE)
    async def book(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_book, service, viewer, form)

    return [Route("/adjust/book", book, methods=["POST"])]


def _book(service: Service, viewer: Viewer, form: dict[str, str]) -> Response:
    draft = draft_of({name: form.get(name, "") for name in FIELDS})
    once = form.get("once", "")
    if not 16 <= len(once) <= 64:
        raise InvalidFormError("once: send the form of the page")
    try:
        booked = adjust_manually(
            engine=service.engine,
            idempotency_key=f"dashboard {once}",
            customer_id=draft.customer_id,
            stream_id=draft.stream_id,
            kind=draft.kind,
            usd_cents=draft.usd_cents,
            reason=draft.reason,
            booked_by=viewer.actor,
            now=utc_now(),
        )
    except (
        InvalidAdjustmentError,
        UnknownCustomerError,
        UnusableTimeZoneError,
        IdempotencyKeyReusedError,
        RequestInFlightError,
    ) as error:
        raise InvalidFormError(str(error)) from error
    done = link("customer", customer_id=draft.customer_id, booked=booked.adjustment_id)
    return RedirectResponse(f"{done}#adjustments", status_code=303, headers=HEADERS)

"""The form that settles a stream of the backlog: a decision, after its page has stated what is booked."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.core.clock import utc_now
from metering.corrections.examine_stream import StreamChangedError
from metering.corrections.resolve_stream import (
    InvalidResolutionError,
    NotInBacklogError,
    UnknownStreamError,
    resolve_stream,
)
from metering.dashboard.errors import ChangedError, InvalidFormError
from metering.dashboard.forms import Form, form_routes
from metering.dashboard.links import link
from metering.dashboard.page_rendering import open_page_request, render_page
from metering.dashboard.pages.settle import settle_page
from metering.dashboard.rendering import see_other
from metering.dashboard.sessions import Viewer
from metering.server.bootstrap import Service
from metering.streams.resolutions import ResolutionAction


def backlog_form_routes(service: Service) -> list[Route]:
    """The route that receives the forms of the backlog page."""
    return form_routes(service, {"/backlog/settle": _settle}, Scope.CORRECTIONS_WRITE)


def _settle(service: Service, request: Request, viewer: Viewer, form: Form) -> Response:
    action = form.get("action", "")
    if action not in set(ResolutionAction):
        raise InvalidFormError(f"action: one of {', '.join(ResolutionAction)}")
    customer_id, stream_id = form.get("customer_id", ""), form.get("stream_id", "")
    try:
        resolve_stream(
            engine=service.engine,
            customer_id=customer_id,
            stream_id=stream_id,
            action=ResolutionAction(action),
            reason=form.get("reason", ""),
            resolved_by=viewer.actor,
            now=utc_now(),
            # A form without it is none of the page that states what is booked.
            version=form.get("version", ""),
            price_books=service.price_books,
        )
    except StreamChangedError as error:
        with open_page_request(service, request) as wanted:
            asked = wanted.asking(customer_id=customer_id, stream_id=stream_id)
            page = settle_page(asked, customer_id, stream_id, problem=str(error))
            return render_page(asked, page, here=link("settle"), status=ChangedError.status)
    except (InvalidResolutionError, NotInBacklogError, UnknownStreamError) as error:
        raise InvalidFormError(str(error)) from error
    return see_other(link("backlog", settled=stream_id, customer=customer_id))

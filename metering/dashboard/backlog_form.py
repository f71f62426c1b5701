"""The form that settles a stream of the backlog: a decision, after its page has stated what is booked."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
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
from metering.dashboard.access import needs
from metering.dashboard.errors import ChangedError, InvalidFormError
from metering.dashboard.forms import read_signed_form
from metering.dashboard.links import link
from metering.dashboard.page_rendering import open_page_request, render_page
from metering.dashboard.pages.settle import settle_page
from metering.dashboard.rendering import HEADERS
from metering.dashboard.sessions import Viewer
from metering.server.bootstrap import Service
from metering.streams.resolutions import ResolutionAction


def backlog_form_routes(service: Service) -> list[Route]:
    """The route that receives the forms of the backlog page."""

    @needs(Scope.CORRECTIONS_WRITE)
    async def settle(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_settle, service, request, viewer, form)

    return [Route("/backlog/settle", settle, methods=["POST"])]


def _settle(service: Service, request: Request, viewer: Viewer, form: dict[str, str]) -> Response:
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
    done = link("backlog", settled=stream_id, customer=customer_id)
    return RedirectResponse(done, status_code=303, headers=HEADERS)

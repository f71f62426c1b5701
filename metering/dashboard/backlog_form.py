"""The form that settles a stream of the backlog: an admin's decision, with a reason."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.core.clock import utc_now
from metering.corrections.resolve_stream import (
    InvalidResolutionError,
    NotInBacklogError,
    UnknownStreamError,
    resolve_stream,
)
from metering.dashboard.access import needs
from metering.dashboard.errors import InvalidFormError
from metering.dashboard.forms import read_signed_form
from metering.dashboard.links import link
from metering.dashboard.rendering import HEADERS
from metering.server.bootstrap import Service
from metering.streams.resolutions import ResolutionAction


def backlog_form_routes(service: Service) -> list[Route]:
    """The route that receives the forms of the backlog page."""

    @needs(Scope.CORRECTIONS_WRITE)
    async def settle(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        action = form.get("action", "")
        if action not in set(ResolutionAction):
            raise InvalidFormError(f"action: one of {', '.join(ResolutionAction)}")
        customer_id, stream_id = form.get("customer_id", ""), form.get("stream_id", "")
        try:
            await run_in_threadpool(
                resolve_stream,
                engine=service.engine,
                customer_id=customer_id,
                stream_id=stream_id,
                action=ResolutionAction(action),
                reason=form.get("reason", ""),
                resolved_by=viewer.actor,
                now=utc_now(),
            )
        except (InvalidResolutionError, NotInBacklogError, UnknownStreamError) as error:
            raise InvalidFormError(str(error)) from error
        done = link("backlog", settled=stream_id, customer=customer_id)
        return RedirectResponse(done, status_code=303, headers=HEADERS)

    return [Route("/backlog/settle", settle, methods=["POST"])]

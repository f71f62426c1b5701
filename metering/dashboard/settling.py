"""Settling a stream of the backlog from its page: an admin's decision, with a reason."""

from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metering.core.clock import utc_now
from metering.corrections.resolve_stream import (
    InvalidResolutionError,
    NotInBacklogError,
    UnknownStreamError,
    resolve_stream,
)
from metering.dashboard.asking import link
from metering.dashboard.errors import NotAllowedError, WrongQuestionError
from metering.dashboard.forms import read_form
from metering.dashboard.rendering import HEADERS
from metering.dashboard.viewers import TOKEN_FIELD, check_origin, check_token, viewer_of
from metering.server.bootstrap import Service
from metering.streams.resolutions import ResolutionAction


def settling_routes(service: Service) -> list[Route]:
    """What the backlog's forms send."""

    async def settle(request: Request) -> Response:
        check_origin(request)
        form = await read_form(request)
        viewer = await run_in_threadpool(viewer_of, request, engine=service.engine, now=utc_now())
        check_token(viewer, form.get(TOKEN_FIELD, ""))
        if not viewer.is_admin:
            raise NotAllowedError("settling a stream needs a key with role admin")
        action = form.get("action", "")
        if action not in set(ResolutionAction):
            raise WrongQuestionError(f"action: one of {', '.join(ResolutionAction)}")
        customer_id, stream_id = form.get("customer_id", ""), form.get("stream_id", "")
        try:
            await run_in_threadpool(
                resolve_stream,
                engine=service.engine,
                customer_id=customer_id,
                stream_id=stream_id,
                action=ResolutionAction(action),
                reason=form.get("reason", ""),
                resolved_by=f"key {viewer.key_id}",
                now=utc_now(),
            )
        except (InvalidResolutionError, NotInBacklogError, UnknownStreamError) as error:
            raise WrongQuestionError(str(error)) from error
        settled = urlencode({"settled": stream_id, "customer": customer_id})
        return RedirectResponse(f"{link('backlog')}?{settled}", status_code=303, headers=HEADERS)

    return [Route("/backlog/settle", settle, methods=["POST"])]

"""Liveness, readiness and metrics. They need no key and show nothing about any customer."""

import hmac
import os
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY
from starlette.responses import JSONResponse, PlainTextResponse, Response
from typing_extensions import TypedDict

from metering.api.answers import described
from metering.api.auth import UnauthorizedError, open_to_all
from metering.api.metrics import WithoutMoney, WorkCollector
from metering.api.parameters import TheService
from metering.api.problems import public_detail
from metering.api.routes import problem_responses
from metering.core.errors import MeteringError
from metering.server.database_watch import DatabaseWatch
from metering.serving.processes import METRICS_VARIABLE
from metering.streams.ingest.metrics import INGEST_QUEUED_EVENTS
from metering.streams.ingest.writer import IngestWriter

router = APIRouter(tags=["health"], responses=problem_responses())


class Alive(TypedDict):
    """The process answers."""

    status: Annotated[str, described("Always `alive`.", example="alive")]


class NotAlive(TypedDict):
    """The process has to be restarted. This is not a problem document: probes read only the status."""

    status: Annotated[str, described("Always `not alive`.", example="not alive")]
    detail: Annotated[str, described("Why.")]


class Ready(TypedDict):
    """The database answers."""

    status: Annotated[str, described("Always `ready`.", example="ready")]
    streams_due: Annotated[int, described("How many streams wait for the finalizer now.", example=0)]
    oldest_due_seconds: Annotated[float, described("How long the first of them has waited.", example=0.0)]


class NotReady(TypedDict):
    """The database does not answer. This is not a problem document: probes read only the status."""

    status: Annotated[str, described("Always `not ready`.", example="not ready")]
    detail: Annotated[str, described("Why.")]


@router.get(
    "/livez",
    operation_id="getLiveness",
    summary="Check that the process answers",
    response_model=Alive,
    responses={503: {"model": NotAlive, "description": "The process has to be restarted."}},
)
@open_to_all
async def livez(request: Request) -> Response:
    """The process answers and can store events. It does not depend on the database."""
    writer: IngestWriter = request.app.state.writer
    if not writer.is_alive:
        return JSONResponse(NotAlive(status="not alive", detail="the ingest writer has stopped"), status_code=503)
    return JSONResponse(Alive(status="alive"))


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Check that the database answers",
    response_model=Ready,
    responses={503: {"model": NotReady, "description": "The database does not answer, or could lose commits."}},
)
@open_to_all
async def readyz(request: Request) -> Response:
    """The database answers; with how far the finalizer is behind. A late finalizer does not stop ingest."""
    watch: DatabaseWatch = request.app.state.limits.watch
    try:
        health = await watch.work()
    except MeteringError as error:
        return JSONResponse(NotReady(status="not ready", detail=public_detail(error)), status_code=503)
    ready = Ready(
        status="ready",
        streams_due=health.due,
        oldest_due_seconds=health.oldest_due_age / timedelta(seconds=1),
    )
    return JSONResponse(ready)


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Get Prometheus metrics",
    response_class=PlainTextResponse,
    response_description="Metrics in Prometheus' text format.",
    responses=problem_responses(UnauthorizedError),
)
@open_to_all
def metrics(request: Request, service: TheService) -> Response:
    """Metrics of this process and of the whole deployment. What cannot be read now is left out.

    Where several processes listen on one socket (METERING_API_PROCESSES), they are added up.

    With METERING_METRICS_TOKEN set, they need it as a bearer token. Without it, amounts of money are left out.
    """
    token = service.settings.metrics_token
    if token is not None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token.get_secret_value()}".encode()):
            raise UnauthorizedError("send METERING_METRICS_TOKEN as `Authorization: Bearer <token>`")
    INGEST_QUEUED_EVENTS.set(request.app.state.writer.queued_events)
    work: WorkCollector = request.app.state.work_collector
    body = generate_latest(_counted()) + generate_latest(work if token is not None else WithoutMoney(work))
    return Response(body, media_type=CONTENT_TYPE_LATEST)


def _counted() -> CollectorRegistry:
    """What this process has counted, or all those that share its socket."""
    if not os.environ.get(METRICS_VARIABLE):
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry

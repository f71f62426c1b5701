"""Liveness, readiness and metrics. They need no key and show nothing about any customer."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import REGISTRY
from starlette.responses import JSONResponse, PlainTextResponse, Response
from typing_extensions import TypedDict

from metering.api.answers import described
from metering.api.auth import open_to_all
from metering.api.parameters import TheService
from metering.api.routes import problem_responses
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.db.engine import transaction
from metering.server.queries import WorkHealth, work_health
from metering.streams.ingest.metrics import INGEST_QUEUED_EVENTS

router = APIRouter(tags=["health"], responses=problem_responses())


class Alive(TypedDict):
    """The process answers."""

    status: Annotated[str, described("Always `alive`.", example="alive")]


class Ready(TypedDict):
    """The database answers."""

    status: Annotated[str, described("Always `ready`.", example="ready")]
    streams_due: Annotated[int, described("How many streams wait for the finalizer now.", example=0)]
    oldest_due_seconds: Annotated[float, described("How long the first of them has waited.", example=0.0)]


class NotReady(TypedDict):
    """The database does not answer. This is not a problem document: probes read only the status."""

    status: Annotated[str, described("Always `not ready`.", example="not ready")]
    detail: Annotated[str, described("Why.")]


@router.get("/livez", operation_id="getLiveness", summary="Check that the process answers")
@open_to_all
def livez() -> Alive:
    """The process answers; nothing else is checked."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Check that the database answers",
    response_model=Ready,
    responses={503: {"model": NotReady, "description": "The database does not answer."}},
)
@open_to_all
def readyz(service: TheService) -> Response:
    """The database answers; with how far the finalizer is behind. A late finalizer does not stop ingest."""
    try:
        health = _health(service)
    except MeteringError as error:
        return JSONResponse(NotReady(status="not ready", detail=str(error)), status_code=503)
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
)
@open_to_all
def metrics(request: Request) -> Response:
    """Metrics of this process and of the whole deployment. What cannot be read now is left out."""
    INGEST_QUEUED_EVENTS.set(request.app.state.writer.queued_events)
    body = generate_latest(REGISTRY) + generate_latest(request.app.state.work_collector)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


def _health(service: TheService) -> WorkHealth:
    with transaction(service.engine) as connection:
        return work_health(connection, now=utc_now())

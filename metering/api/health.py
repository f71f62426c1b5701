"""Liveness, readiness and metrics. They need no key and tell nothing of any customer."""

from datetime import timedelta

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import REGISTRY
from starlette.responses import JSONResponse, Response

from metering.api.reading import TheService
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.db.engine import transaction
from metering.server.queries import WorkHealth, work_health
from metering.streams.ingest.metrics import INGEST_QUEUED_EVENTS

router = APIRouter(tags=["health"])


@router.get("/livez")
def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz")
def readyz(service: TheService) -> Response:
    """The database answers; with how far behind the finalizer is. A late finalizer does not stop ingest."""
    try:
        health = _health(service)
    except MeteringError as error:
        return JSONResponse({"status": "not ready", "detail": str(error)}, status_code=503)
    return JSONResponse(
        {
            "status": "ready",
            "streams_due": health.due,
            "oldest_due_seconds": health.oldest_due_age / timedelta(seconds=1),
        }
    )


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Prometheus metrics of this process, and of the work of all. What cannot be read now is left out."""
    INGEST_QUEUED_EVENTS.set(request.app.state.writer.queued_events)
    body = generate_latest(REGISTRY) + generate_latest(request.app.state.work_collector)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


def _health(service: TheService) -> WorkHealth:
    with transaction(service.engine) as connection:
        return work_health(connection, now=utc_now())

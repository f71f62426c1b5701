"""Liveness, readiness and metrics. They need no key and tell nothing of any customer."""

from datetime import timedelta

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from metering.api.reading import TheService
from metering.clock import utc_now
from metering.domain.deliveries import DeliveryState
from metering.domain.errors import MeteringError
from metering.domain.settlement import State
from metering.store.engine import transaction
from metering.telemetry import (
    ALERTS_EVALUATED_SECONDS,
    INGEST_QUEUED_EVENTS,
    OLDEST_DUE_SECONDS,
    OLDEST_WEBHOOK_SECONDS,
    STREAMS_DUE,
    STREAMS_NOT_FINAL,
    WEBHOOK_DELIVERIES,
    WEBHOOK_ENDPOINTS,
)
from metering.totals.health import WorkHealth, work_health
from metering.totals.webhooks import alert_health

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
def metrics(request: Request, service: TheService) -> Response:
    """Prometheus metrics of this process and of the work in the database."""
    health = _health(service)
    INGEST_QUEUED_EVENTS.set(request.app.state.writer.queued_events)
    STREAMS_DUE.set(health.due)
    OLDEST_DUE_SECONDS.set(health.oldest_due_age / timedelta(seconds=1))
    for state in State:
        if state is not State.FINALIZED:
            STREAMS_NOT_FINAL.labels(state.value).set(health.states.get(state.value, 0))
    _measure_alerts(service)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _measure_alerts(service: TheService) -> None:
    with transaction(service.engine) as connection:
        health = alert_health(connection, now=utc_now())
    ALERTS_EVALUATED_SECONDS.set(health.evaluated_ago / timedelta(seconds=1))
    OLDEST_WEBHOOK_SECONDS.set(health.oldest_pending_age / timedelta(seconds=1))
    for state in ("ok", "failing", "disabled"):
        WEBHOOK_ENDPOINTS.labels(state).set(health.endpoints.get(state, 0))
    for state in (DeliveryState.PENDING, DeliveryState.FAILED, DeliveryState.SKIPPED):
        WEBHOOK_DELIVERIES.labels(state.value).set(health.deliveries.get(state.value, 0))


def _health(service: TheService) -> WorkHealth:
    with transaction(service.engine) as connection:
        return work_health(connection, now=utc_now())

"""Exports for whoever is signed in: the same files as over the API."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.core.clock import utc_now
from metering.core.period import BillingPeriod
from metering.dashboard.errors import NoSuchThingError, WrongQuestionError
from metering.dashboard.viewers import viewer_of
from metering.exports.download import stream_export
from metering.exports.export_month import ExportFormat, ExportKind, ExportRequest
from metering.server.bootstrap import Service


def export_routes(service: Service) -> list[Route]:
    """One route for all of them."""
    return [Route("/exports/{name}", _export(service), methods=["GET"])]


def _export(service: Service) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        viewer = viewer_of(request, engine=service.engine, now=utc_now())
        kind, _, format = request.path_params["name"].rpartition(".")
        if kind not in set(ExportKind) or format not in set(ExportFormat):
            raise NoSuchThingError("there is no such export")
        customer_id = request.query_params.get("customer_id") or None
        if customer_id is not None and "\0" in customer_id:
            raise WrongQuestionError("customer_id: no customer has NUL in its id")
        wanted = ExportRequest(
            kind=ExportKind(kind),
            format=ExportFormat(format),
            period=BillingPeriod.parse(request.query_params.get("period", "")),
            customer_id=viewer.customer(customer_id),
        )
        return stream_export(
            engine=service.engine,
            request=wanted,
            issuer=service.settings.issuer_name,
            timeout=service.settings.export_timeout,
        )

    return endpoint

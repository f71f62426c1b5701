"""`GET /v1/exports/…`: a month as a file."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from metering.api.auth import Reader, require_customer
from metering.api.reading import TheService
from metering.api.stream_paths import text_of
from metering.core.period import BillingPeriod
from metering.exports.download import stream_export
from metering.exports.export_month import ExportFormat, ExportKind, ExportRequest

router = APIRouter(prefix="/v1", tags=["exports"])


@router.get(
    "/exports/{kind}.{format}",
    response_class=Response,
    responses={
        200: {"description": "The file", "content": {"text/csv": {}, "application/vnd.apache.parquet": {}}}
    },
)
def read_export(
    kind: ExportKind,
    format: ExportFormat,
    key: Reader,
    service: TheService,
    period: Annotated[str, Query(description="A month, such as 2026-10")],
    customer_id: str | None = None,
) -> Response:
    """A month's charges, invoice lines or FOCUS 1.2 rows, as CSV or Parquet; of a customer, or of all."""
    request = ExportRequest(
        kind=kind,
        format=format,
        period=BillingPeriod.parse(period),
        customer_id=require_customer(key, text_of(customer_id)),
    )
    return stream_export(
        engine=service.engine,
        request=request,
        issuer=service.settings.issuer_name,
        timeout=service.settings.export_timeout,
    )

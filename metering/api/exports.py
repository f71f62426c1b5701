"""`GET /v1/exports/…`: a month as a file."""

from typing import Annotated

from fastapi import Path, Query, Request
from starlette.responses import Response

from metering.access.scopes import Scope
from metering.api.auth import Caller, needs, require_customer
from metering.api.parameters import CustomerFilter, RequiredMonth, TheService
from metering.api.routes import raises, v1_router
from metering.core.period import BillingPeriod
from metering.customers.store import UnknownCustomerError
from metering.exports.download import ChunksUnsupportedError, TooManyExportsError, stream_export
from metering.exports.export_month import ExportFormat, ExportKind, ExportRequest, NotForExcelError

router = v1_router("exports")


@router.get(
    "/exports/{kind}.{format}",
    operation_id="getExport",
    summary="Download a month",
    response_class=Response,
    responses={
        200: {
            "description": "The file, in the format of the path. It is whole only if the chunked answer ends.",
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
@needs(Scope.EXPORTS_READ)
@raises(UnknownCustomerError, NotForExcelError, TooManyExportsError, ChunksUnsupportedError)
def read_export(
    kind: Annotated[ExportKind, Path(description="The rows to export.")],
    format: Annotated[ExportFormat, Path(description="The file format.")],
    key: Caller,
    service: TheService,
    sent: Request,
    period: RequiredMonth,
    customer_id: CustomerFilter = None,
    excel: Annotated[
        bool,
        Query(description="Only for csv: as Excel opens it by a double-click, with a UTF-8 mark and plain times."),
    ] = False,
) -> Response:
    """A month's charges, invoice lines or FOCUS 1.2 rows, as CSV or Parquet; of one customer, or of all."""
    request = ExportRequest(
        kind=kind,
        format=format,
        period=BillingPeriod.parse(period),
        customer_id=require_customer(key, customer_id),
        excel=excel,
    )
    return stream_export(
        engine=sent.app.state.pools.exports,
        request=request,
        issuer=service.settings.issuer_name,
        timeout=service.settings.export_timeout,
    )

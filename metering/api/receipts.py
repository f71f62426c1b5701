"""`GET /v1/streams/{customer_id}/{stream_id}/receipt`: what a stream's cost follows from, as JSON or text."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header
from starlette.responses import Response

from metering.api.auth import Reader, require_customer
from metering.api.errors import NotFoundError
from metering.api.reading import Db
from metering.api.stream_paths import route_ending_in, stream_key_before
from metering.audit.make_receipt import make_receipt
from metering.audit.receipt_document import receipt_document, receipt_text
from metering.core.clock import utc_now

_RECEIPT = "/receipt"

router = APIRouter(prefix="/v1", tags=["reading"], route_class=route_ending_in(_RECEIPT))


@router.get("/streams/{customer_id}/{stream_id:path}/receipt")
def read_receipt(
    stream: Annotated[tuple[str, str], Depends(stream_key_before(_RECEIPT))],
    key: Reader,
    connection: Db,
    accept: Annotated[str, Header(description="text/plain gives a text for people")] = "application/json",
) -> Response:
    """Everything by which the cost can be redone: `metering verify receipt.json` does, without a database."""
    customer_id, stream_id = stream
    require_customer(key, customer_id)
    receipt = make_receipt(connection, customer_id=customer_id, stream_id=stream_id, now=utc_now())
    if receipt is None:
        raise NotFoundError(f"customer {customer_id!r} has no stream {stream_id!r}")
    if "text/plain" in accept:
        return Response(receipt_text(receipt), media_type="text/plain; charset=utf-8")
    return Response(receipt_document(receipt), media_type="application/json")

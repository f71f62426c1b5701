"""Starts, ends, bills and charge lines as JSON documents in the database, and back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from metering.domain.events import Outcome, StreamEnd, StreamStart, UsageSource
from metering.domain.ledger import Bill
from metering.domain.rating import ChargeLine
from metering.domain.usage import Usage

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.decode
_bill_decoder = msgspec.json.Decoder(Bill)
_lines_decoder = msgspec.json.Decoder(tuple[ChargeLine, ...])


def attributes_document(event: StreamStart | StreamEnd) -> bytes:
    """What a start or an end says, as stored in `start_data` and `end_data`."""
    return _encode(event.attributes())


def start_from_document(document: str | bytes, *, customer_id: str, stream_id: str, time: datetime) -> StreamStart:
    """The stream-start that `start_data` holds."""
    return StreamStart(customer_id=customer_id, stream_id=stream_id, time=time, **_decode(document))


def end_from_document(document: str | bytes, *, customer_id: str, stream_id: str, time: datetime) -> StreamEnd:
    """The stream-end that `end_data` holds."""
    said: Mapping[str, Any] = _decode(document)
    return StreamEnd(
        customer_id=customer_id,
        stream_id=stream_id,
        time=time,
        outcome=Outcome(said["outcome"]),
        usage=Usage(**said["usage"]) if "usage" in said else None,
        usage_source=UsageSource(said["usage_source"]) if "usage_source" in said else None,
        finish_reasons=tuple(said["finish_reasons"]) if "finish_reasons" in said else None,
        response_model=said.get("response_model"),
        response_id=said.get("response_id"),
        service_tier=said.get("service_tier"),
        error_type=said.get("error_type"),
    )


def bill_document(bill: Bill) -> str:
    """A bill with its lines; decimals are strings."""
    return _encode(bill).decode()


def bill_from_document(document: str | bytes) -> Bill:
    """The bill that an adjustment carries."""
    return _bill_decoder.decode(document)


def lines_document(lines: tuple[ChargeLine, ...]) -> str:
    """The lines of a charge; decimals are strings."""
    return _encode(lines).decode()


def lines_from_document(document: str | bytes) -> tuple[ChargeLine, ...]:
    """The lines that a charge holds."""
    return _lines_decoder.decode(document)

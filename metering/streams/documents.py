"""Starts, ends, bills and charge lines as JSON documents in the database, and back."""

import msgspec

from metering.events.events import StreamEnd, StreamStart
from metering.ledger.entries import Bill
from metering.prices.rating import ChargeLine

_encode = msgspec.json.Encoder(order="deterministic").encode
_bill_decoder = msgspec.json.Decoder(Bill)
_lines_decoder = msgspec.json.Decoder(tuple[ChargeLine, ...])


def attributes_document(event: StreamStart | StreamEnd) -> bytes:
    """What a start or an end says, as stored in `start_data` and `end_data`."""
    return _encode(event.attributes())


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

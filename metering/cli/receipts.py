"""The receipt of a stream, made from the configured database."""

from metering.audit.make_receipt import make_receipt
from metering.audit.receipt import Receipt
from metering.audit.receipt_document import receipt_document
from metering.cli.service import database
from metering.core.clock import utc_now
from metering.corrections.resolve_stream import UnknownStreamError


def made_receipt(customer_id: str, stream_id: str) -> Receipt:
    """The receipt of a stream in its present state.

    Raises:
        UnknownStreamError: no event of the stream has arrived.
    """
    with database() as connection:
        made = make_receipt(connection, customer_id=customer_id, stream_id=stream_id, now=utc_now())
    if made is None:
        raise UnknownStreamError(f"customer {customer_id!r} has no stream {stream_id!r}")
    return made


def receipt_of(customer_id: str, stream_id: str) -> bytes:
    """The same as JSON.

    Raises:
        UnknownStreamError: no event of the stream has arrived.
    """
    return receipt_document(made_receipt(customer_id, stream_id))

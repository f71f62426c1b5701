"""From a journaled body back to its events, exactly as they were sent."""

from collections.abc import Collection, Iterator

import msgspec

from metering.events.wire.decode import NDJSON, ndjson_lines
from metering.events.wire.split import split_json


class _Key(msgspec.Struct):
    stream_id: str


class _Event(msgspec.Struct):
    """As much of an event as tells whose it is."""

    subject: str
    data: _Key


_decode = msgspec.json.Decoder(_Event).decode


def events_as_sent(*, body: bytes, media_type: str, rejected: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Index and JSON of each event that counted, in the order of the request; those at `rejected` did not.

    Raises:
        InvalidJsonError: the body is none that ingest accepts.
    """
    raws = ndjson_lines(body) if media_type == NDJSON else split_json(body)
    left_out = frozenset(rejected)
    return ((index, raw) for index, raw in enumerate(raws) if index not in left_out)


def is_of_stream(event: bytes, *, customer_id: str, stream_id: str) -> bool:
    """Whether an accepted event, as it was sent, is of this stream."""
    known = _decode(event)
    return (known.subject, known.data.stream_id) == (customer_id, stream_id)

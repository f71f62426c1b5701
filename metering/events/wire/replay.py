"""Split a journaled body into its events, exactly as they were sent."""

from collections.abc import Collection, Iterator

import msgspec

from metering.events.wire.decode import NDJSON, ndjson_lines
from metering.events.wire.split import split_json


class _Key(msgspec.Struct):
    stream_id: str


class _Event(msgspec.Struct):
    """The fields that identify the stream of an event."""

    subject: str
    data: _Key


_decode = msgspec.json.Decoder(_Event).decode


def events_as_sent(*, body: bytes, media_type: str, rejected: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Index and JSON of each accepted event, in request order. `rejected` has the indexes of the others.

    Raises:
        InvalidJsonError: the body is not valid JSON.
    """
    raws = ndjson_lines(body) if media_type == NDJSON else split_json(body)
    skipped = frozenset(rejected)
    return ((index, raw) for index, raw in enumerate(raws) if index not in skipped)


def belongs_to_stream(event: bytes, *, customer_id: str, stream_id: str) -> bool:
    """Whether an accepted event belongs to this stream."""
    known = _decode(event)
    return (known.subject, known.data.stream_id) == (customer_id, stream_id)

"""The paths that take usage events, and what the doors of translations have in common."""

from collections.abc import Mapping

import msgspec

from metering.api.events import EventsDoor
from metering.api.ingest import Door, Taken
from metering.events.wire.decode import Decoded, decode_json
from metering.translations.translated import Translated

_encode = msgspec.json.Encoder().encode
_NO_EVENTS = Decoded(events=(), rejections=(), count=0)


def build_doors() -> Mapping[str, Door]:
    """The door of each path."""
    return {"/v1/events": EventsDoor()}


def taken_of(translated: Translated) -> Taken:
    """The events of a translation, decoded like those of a gateway. There may be none.

    Raises:
        TooManyEventsError: there are more than 10,000.
    """
    body = _encode([each.event for each in translated.events])
    return Taken(
        decoded=decode_json(body) if translated.events else _NO_EVENTS,
        body=body,
        media_type="application/json",
        records=[each.record for each in translated.events],
        left_out=translated.left_out,
    )

"""The paths that take usage events, and what the doors of translations have in common."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from metering.api.events import EventsDoor
from metering.api.ingest import Door, Taken
from metering.events.events import Inlet
from metering.events.wire.decode import Decoded, decode_json
from metering.events.wire.rejections import Rejection, shown_id
from metering.translations.translated import Translated

_encode = msgspec.json.Encoder().encode
_NO_EVENTS = Decoded(events=(), rejections=(), count=0)


def build_doors() -> Mapping[str, Door]:
    """The door of each path."""
    return {"/v1/events": EventsDoor()}


def taken_of(translated: Translated, *, inlet: Inlet) -> Taken:
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
        inlet=inlet,
    )


def refused(taken: Taken) -> list[Rejection]:
    """What became no accepted event, in the order of the request: `index` is the place of the record in it.

    Events of a record that are rejected for one reason are told once.
    """
    records = taken.records or ()
    found = [
        Rejection(index=each.record, id=shown_id(each.id), code="left-out", detail=each.detail)
        for each in taken.left_out
    ]
    for rejection in taken.decoded.rejections:
        found.append(replace(rejection, index=records[rejection.index]))
    told = {(each.index, each.detail): each for each in reversed(found)}
    return sorted(told.values(), key=lambda each: each.index)

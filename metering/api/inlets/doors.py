"""The paths that take usage events, and what the doors of translations have in common."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import msgspec
from starlette.responses import Response

from metering.api.ingest import Posted, Taken
from metering.api.problems import NoRecordAcceptedError
from metering.events.events import Inlet
from metering.events.wire.decode import MAX_EVENTS, Decoded, TooManyEventsError, decode_json
from metering.events.wire.rejections import Rejection, shown_id
from metering.events.wire.split import InvalidJsonError
from metering.translations.completions import Sender
from metering.translations.translated import Translated

Clock = Callable[[], datetime]
Record = TypeVar("Record")

_encode = msgspec.json.Encoder().encode
_NO_EVENTS = Decoded(events=(), rejections=(), count=0)


class AcceptedRecords(msgspec.Struct, frozen=True):
    """The answer once the accepted records are durable."""

    accepted: int
    rejected: list[Rejection]


def sender_of(posted: Posted, *, clock: Clock) -> Sender:
    """Whose key has posted a request, now."""
    return Sender(received_at=clock(), customer_id=posted.key.customer_id, source=posted.key.source)


def body_of(posted: Posted) -> bytes:
    """The body of a request.

    Raises:
        InvalidJsonError: it is empty.
    """
    if not posted.body.strip():
        raise InvalidJsonError("the body is empty: send a record, or an array of records")
    return posted.body


def bounded(records: list[Record]) -> list[Record]:
    """The records of a request.

    Raises:
        TooManyEventsError: there are more than a request may have events.
    """
    if len(records) > MAX_EVENTS:
        raise TooManyEventsError(len(records))
    return records


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

    Events of a record that are rejected for one reason are listed once.
    """
    records = taken.records or ()
    found = [
        Rejection(index=each.record, id=shown_id(each.id), code="left-out", detail=each.detail)
        for each in taken.left_out
    ]
    found += [replace(each, index=records[each.index]) for each in taken.decoded.rejections]
    told = {(each.index, each.detail): each for each in reversed(found)}
    return sorted(told.values(), key=lambda each: each.index)


def require_some(taken: Taken) -> list[Rejection]:
    """What was refused, where anything was accepted, or nothing was refused.

    Raises:
        NoRecordAcceptedError: no record was accepted.
    """
    found = refused(taken)
    if found and not taken.decoded.events:
        raise NoRecordAcceptedError(found)
    return found


def answer_of(taken: Taken) -> Response:
    """How many records were accepted, and the others with the reason.

    Raises:
        NoRecordAcceptedError: none was, and some should have been.
    """
    rejected = require_some(taken)
    places = {each.index for each in taken.decoded.rejections}
    accepted = {record for place, record in enumerate(taken.records or ()) if place not in places}
    return Response(_encode(AcceptedRecords(len(accepted), rejected)), media_type="application/json")

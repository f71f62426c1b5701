"""Decode the events of a request: all at once if all are valid, one by one otherwise."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import MAXYEAR

import jiter
import msgspec

from metering.core.errors import MeteringError
from metering.events.wire.events import WireEvent
from metering.events.wire.rejections import Rejection, rejection_of
from metering.events.wire.split import split_json

MAX_EVENTS = 10_000
NDJSON = "application/x-ndjson"

_batch = msgspec.json.Decoder(list[WireEvent])
_single = msgspec.json.Decoder(WireEvent)
_untyped = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode

# PostgreSQL's text cannot contain NUL; JSON can only write it like this.
_ESCAPED_NUL = b"\\u0000"
_REPEATED_KEY = re.compile(r'Detected duplicate key ("(?:[^"\\]|\\.)*")')

# Far enough from the limits of the calendar that a month has a start and an end in every time zone.
_FIRST_YEAR, _LAST_YEAR = 1970, MAXYEAR - 1


class TooManyEventsError(MeteringError):
    """The request has more events than the contract allows."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} events in one request: send at most {MAX_EVENTS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The valid events of a request and the rejected ones; `count` is the number of both."""

    events: Sequence[WireEvent]
    rejections: Sequence[Rejection]
    count: int


def decode_json(body: bytes) -> Decoded:
    """Decode one event or an array of events.

    Raises:
        InvalidJsonError: the body is not valid JSON; the message says where.
        TooManyEventsError: there are more than 10,000 events.
    """
    events = _decode_at_once(body)
    return _all_accepted(events) if events is not None else _decode_each(split_json(body))


def decode_ndjson(body: bytes) -> Decoded:
    """Decode one event per line; blank lines are skipped.

    Raises:
        TooManyEventsError: there are more than 10,000 events.
    """
    lines = ndjson_lines(body)
    events = _decode_at_once(b"[%s]" % b",".join(lines))
    # A line with two events and a comma between them is not valid NDJSON.
    return _all_accepted(events) if events is not None and len(events) == len(lines) else _decode_each(lines)


def ndjson_lines(body: bytes) -> list[bytes]:
    """The lines that are not blank."""
    return [line for line in body.split(b"\n") if line.strip()]


def _all_accepted(events: Sequence[WireEvent]) -> Decoded:
    return Decoded(events=events, rejections=(), count=_bounded(len(events)))


def _bounded(count: int) -> int:
    if count > MAX_EVENTS:
        raise TooManyEventsError(count)
    return count


def _decode_at_once(body: bytes) -> Sequence[WireEvent] | None:
    """All events if all are valid; None if they have to be decoded one by one."""
    try:
        events = _batch.decode(body) if body.lstrip()[:1] == b"[" else [_single.decode(body)]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if any(not _FIRST_YEAR <= event.time.year <= _LAST_YEAR for event in events):
        return None
    if not _has_known_keys_only(body, events) and (_ESCAPED_NUL in body or _fault_of(body)):
        return None
    return events


def _has_known_keys_only(body: bytes, events: Sequence[WireEvent]) -> bool:
    """Whether the body has as many strings as its events have when encoded again.

    Then no key was repeated or ignored. This is the usual case, and cheap to check: without a backslash, each
    quote opens or closes a string.
    """
    return b"\\" not in body and body.count(b'"') == _encode(events).count(b'"')


def _fault_of(body: bytes) -> str | None:
    """A fault that msgspec accepts: a repeated key (it takes the last value), or over 200 levels of nesting."""
    try:
        jiter.from_json(body, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        return str(error)
    return None


def _decode_each(raws: Sequence[bytes]) -> Decoded:
    count = _bounded(len(raws))
    verdicts = [_decode_one(index, raw) for index, raw in enumerate(raws)]
    return Decoded(
        events=[verdict for verdict in verdicts if not isinstance(verdict, Rejection)],
        rejections=[verdict for verdict in verdicts if isinstance(verdict, Rejection)],
        count=count,
    )


def _decode_one(index: int, raw: bytes) -> WireEvent | Rejection:
    try:
        wire = _decode_typed(index, raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        return Rejection(index=index, id=None, code="invalid-json", detail=f"not valid JSON: {reason}")
    except RecursionError:
        return Rejection(index=index, id=None, code="invalid-json", detail="nested too deeply")
    if isinstance(wire, Rejection):
        return wire
    if not _FIRST_YEAR <= wire.time.year <= _LAST_YEAR:
        detail = f"time: expected a year from {_FIRST_YEAR} to {_LAST_YEAR}, got {wire.time.year}"
        return Rejection(index=index, id=wire.id, code="invalid-field", detail=detail)
    if _ESCAPED_NUL in raw and (path := _path_of_nul(msgspec.to_builtins(wire))):
        detail = f"{path}: expected text without NUL (\\u0000)"
        return Rejection(index=index, id=wire.id, code="invalid-field", detail=detail)
    if fault := _fault_of(raw):
        return _rejection_of_fault(index, wire.id, fault)
    return wire


def _rejection_of_fault(index: int, event_id: str, fault: str) -> Rejection:
    if repeated := _REPEATED_KEY.match(fault):
        detail = f"{repeated[1]}: the key is repeated within one object; send it once"
        return Rejection(index=index, id=event_id, code="duplicate-key", detail=detail)
    detail = "nested too deeply" if fault.startswith("recursion limit") else f"not valid JSON: {fault}"
    return Rejection(index=index, id=event_id, code="invalid-json", detail=detail)


def _decode_typed(index: int, raw: bytes) -> WireEvent | Rejection:
    try:
        event: WireEvent = _single.decode(raw)
    except msgspec.ValidationError as error:
        # msgspec stops at the first invalid value. Decode all of it, because the rest may not be JSON.
        return rejection_of(index=index, event=_untyped.decode(raw), error=str(error))
    return event


def _path_of_nul(value: object) -> str | None:
    """The path of a NUL in a decoded event, such as `data.model`; None if there is none."""
    match value:
        case str():
            return "" if "\0" in value else None
        case dict():
            children = [(str(key), inner) for key, inner in value.items()]
            if any("\0" in key for key, _ in children):
                return ""
        case list():
            children = [(str(position), inner) for position, inner in enumerate(value)]
        case _:
            return None
    for name, inner in children:
        if (path := _path_of_nul(inner)) is not None:
            return f"{name}.{path}".rstrip(".")
    return None

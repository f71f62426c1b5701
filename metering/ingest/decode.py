"""From the bytes of a request to its events: decoded once when all is well, event by event when not."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import MAXYEAR

import msgspec

from metering.domain.errors import MeteringError
from metering.domain.events import UsageEvent
from metering.ingest.rejections import Rejection, rejection_of
from metering.ingest.wire import WireEvent, to_domain

MAX_EVENTS = 10_000

_batch = msgspec.json.Decoder(list[WireEvent])
_single = msgspec.json.Decoder(WireEvent)
_raw_batch = msgspec.json.Decoder(list[msgspec.Raw])
_untyped = msgspec.json.Decoder()

# PostgreSQL's text cannot hold NUL; JSON can only write it so.
_ESCAPED_NUL = b"\\u0000"

# Far enough from the ends of the calendar that every time zone's month exists.
_FIRST_YEAR, _LAST_YEAR = 1970, MAXYEAR - 1


class InvalidJsonError(MeteringError):
    """The body is not JSON at all, so there are no events to look at."""


class TooManyEventsError(MeteringError):
    """More events in one request than the contract allows."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} events in one request: send at most {MAX_EVENTS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A request's events, and the ones of its `count` that do not count."""

    events: Sequence[UsageEvent]
    rejections: Sequence[Rejection]
    count: int


def decode_json(body: bytes) -> Decoded:
    """One event, or an array of events.

    Raises:
        InvalidJsonError: with where it breaks off.
        TooManyEventsError: more than 10,000.
    """
    if _ESCAPED_NUL not in body:
        try:
            return _decode_well_formed(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass  # the slow path below finds the culprits
    return _decode_each(_split_json(body))


def decode_ndjson(body: bytes) -> Decoded:
    """One event a line; empty lines do not count.

    Raises:
        TooManyEventsError: more than 10,000.
    """
    return _decode_each([line for line in body.split(b"\n") if line.strip()])


def _decode_well_formed(body: bytes) -> Decoded:
    is_array = body.lstrip()[:1] == b"["
    wire = _batch.decode(body) if is_array else [_single.decode(body)]
    if len(wire) > MAX_EVENTS:
        raise TooManyEventsError(len(wire))
    if any(not _FIRST_YEAR <= event.time.year <= _LAST_YEAR for event in wire):
        return _decode_each(_split_json(body))
    return Decoded(events=[to_domain(event) for event in wire], rejections=(), count=len(wire))


def _split_json(body: bytes) -> list[bytes]:
    try:
        if body.lstrip()[:1] == b"[":
            return [bytes(raw) for raw in _raw_batch.decode(body)]
        _untyped.decode(body)
    except RecursionError as error:
        raise InvalidJsonError("the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _split_leniently(body, error)
    return [body]


def _split_leniently(body: bytes, error: Exception) -> list[bytes]:
    """The events of a body that msgspec refuses for a lone surrogate in one of them; JSON as such allows those."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidJsonError(f"the body is not valid JSON: {_reason(error)}") from error
    events = document if isinstance(document, list) else [document]
    return [json.dumps(event).encode() for event in events]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _decode_each(raws: Sequence[bytes]) -> Decoded:
    if len(raws) > MAX_EVENTS:
        raise TooManyEventsError(len(raws))
    events: list[UsageEvent] = []
    rejections: list[Rejection] = []
    for index, raw in enumerate(raws):
        verdict = _decode_one(index, raw)
        if isinstance(verdict, Rejection):
            rejections.append(verdict)
        else:
            events.append(verdict)
    return Decoded(events=events, rejections=rejections, count=len(raws))


def _decode_one(index: int, raw: bytes) -> UsageEvent | Rejection:
    try:
        wire = _decode_typed(index, raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Rejection(index=index, id=None, code="invalid-json", detail=f"not valid JSON: {_reason(error)}")
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
    return to_domain(wire)


def _decode_typed(index: int, raw: bytes) -> WireEvent | Rejection:
    try:
        event: WireEvent = _single.decode(raw)
    except msgspec.ValidationError as error:
        # It stops at the first wrong value: what follows may not even be JSON, which decoding all of it tells.
        return rejection_of(index=index, event=_untyped.decode(raw), error=str(error))
    return event


def _path_of_nul(value: object) -> str | None:
    """Where a decoded event has a NUL, as `data.model`; None when it has none."""
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


def _reason(error: Exception) -> str:
    return str(error).removeprefix("JSON is malformed: ")

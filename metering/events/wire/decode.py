"""Decode the events of a request: all at once if all are valid, one by one otherwise."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import jiter
import msgspec

from metering.core.errors import MeteringError
from metering.events.events import FIRST_YEAR, LAST_YEAR
from metering.events.wire.events import EndEvent, WireEvent, decimal_hook, encode_events, has_no_counter
from metering.events.wire.hints import MAX_WARNINGS, FieldWarning, unknown_fields, unknown_usage
from metering.events.wire.rejections import Rejection, rejection_of, shown_id
from metering.events.wire.split import split_json
from metering.events.wire.times import truncate_time, truncate_times

MAX_EVENTS = 10_000
# An event of the contract has some kilobytes at most.
MAX_EVENT_BYTES = 256 * 1024
# More than any body of 10,000 full events has; a body with more takes longer to refuse than to count.
MAX_VALUES = 400_000
# Beside what its objects may hold, a body may have one long list.
_MAX_VALUES_PER_OBJECT, _LONG_LIST = 64, 20_000
NDJSON = "application/x-ndjson"

_batch = msgspec.json.Decoder(list[WireEvent], dec_hook=decimal_hook)
_single = msgspec.json.Decoder(WireEvent, dec_hook=decimal_hook)
_untyped = msgspec.json.Decoder()
_raws = msgspec.json.Decoder(list[msgspec.Raw])

# PostgreSQL's text cannot contain NUL; JSON can only write it like this.
_ESCAPED_NUL = b"\\u0000"
# No URL can name these.
_DOTS = frozenset({".", ".."})
_MAX_SHOWN = 80
_REPEATED_KEY = re.compile(r'Detected duplicate key ("(?:[^"\\]|\\.)*")')

_YEARS = frozenset(range(FIRST_YEAR, LAST_YEAR + 1))


class TooManyEventsError(MeteringError):
    """The request has more events than the contract allows."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} events in one request: send at most {MAX_EVENTS}")


class TooManyValuesError(MeteringError):
    """The request has more values than any 10,000 events have; it was not decoded."""

    def __init__(self) -> None:
        super().__init__("the body has far more values than events have: send fewer or smaller events")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The valid events of a request and the rejected ones; `count` is the number of both.

    `warnings` names unknown fields of the valid ones; at most 100.
    """

    events: Sequence[WireEvent]
    rejections: Sequence[Rejection]
    count: int
    warnings: Sequence[FieldWarning] = ()


def decode_json(body: bytes) -> Decoded:
    """Decode one event or an array of events.

    Raises:
        InvalidJsonError: the body is not valid JSON; the message says where.
        TooManyEventsError: there are more than 10,000 events.
        TooManyValuesError: there are far more values than events have.
    """
    check_shape(body)
    return _decode_at_once(body) or _decode_each(split_json(body))


def decode_ndjson(body: bytes) -> Decoded:
    """Decode one event per line; blank lines are skipped.

    Raises:
        TooManyEventsError: there are more than 10,000 events.
        TooManyValuesError: there are far more values than events have.
    """
    check_shape(body)
    lines = ndjson_lines(body)
    decoded = _decode_at_once(b"[%s]" % b",".join(lines))
    # A line with two events and a comma between them is not valid NDJSON.
    return decoded if decoded is not None and decoded.count == len(lines) else _decode_each(lines)


def ndjson_lines(body: bytes) -> list[bytes]:
    """The lines that are not blank."""
    return [line for line in body.split(b"\n") if line.strip()]


def check_shape(body: bytes) -> None:
    """Refuse a body that would take long to decode. Counting takes a millisecond per MiB, decoding up to 500.

    Raises:
        TooManyValuesError: there are far more values than events have.
    """
    if len(body) <= 2 * _LONG_LIST:  # a value and its comma are two bytes
        return
    values = body.count(b",") + body.count(b"\n")
    if values > MAX_VALUES or values > _LONG_LIST + _MAX_VALUES_PER_OBJECT * body.count(b"{"):
        raise TooManyValuesError


def _bounded(count: int) -> int:
    if count > MAX_EVENTS:
        raise TooManyEventsError(count)
    return count


def _decode_at_once(body: bytes) -> Decoded | None:
    """All events if all are valid; None if they have to be decoded one by one."""
    whole = truncate_times(body)
    try:
        events = _batch.decode(whole) if whole.lstrip()[:1] == b"[" else [_single.decode(whole)]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if len(body) > MAX_EVENT_BYTES and _has_long_event(body):
        return None
    years = {event.time.year for event in events}
    ids = {event.data.stream_id for event in events} | {event.subject for event in events}
    if not years <= _YEARS or not _DOTS.isdisjoint(ids):
        return None
    # Where another field is named `time`, only decoding one by one tells which is the event's.
    if whole is not body and whole.count(b'"time"') != len(events):
        return None
    if _has_known_keys_only(body, events):
        return Decoded(events=events, rejections=(), count=_bounded(len(events)))
    if _ESCAPED_NUL in body or _fault_of(body) or any(map(_lacks_counters, events)):
        return None
    return Decoded(events=events, rejections=(), count=_bounded(len(events)), warnings=_warnings(body))


def _has_long_event(body: bytes) -> bool:
    raws = _raws.decode(body) if body.lstrip()[:1] == b"[" else [body]
    return any(memoryview(raw).nbytes > MAX_EVENT_BYTES for raw in raws)


def _lacks_counters(event: WireEvent) -> bool:
    return isinstance(event, EndEvent) and event.data.usage is not None and has_no_counter(event.data.usage)


def _warnings(body: bytes) -> list[FieldWarning]:
    """Of a body whose events are all valid."""
    document = _untyped.decode(body)
    events = document if isinstance(document, list) else [document]
    found = (warning for index, event in enumerate(events) for warning in unknown_fields(index, event))
    return list(islice(found, MAX_WARNINGS))


def _has_known_keys_only(body: bytes, events: Sequence[WireEvent]) -> bool:
    """Whether the body has as many strings as its events have when encoded again.

    Then no key was repeated or ignored. This is the usual case, and cheap to check: without a backslash, each
    quote opens or closes a string.
    """
    return b"\\" not in body and body.count(b'"') == encode_events(events).count(b'"')


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
    accepted = {index: each for index, each in enumerate(verdicts) if not isinstance(each, Rejection)}
    told = (
        warning
        for index, event in accepted.items()
        if not _has_known_keys_only(raws[index], [event])
        for warning in unknown_fields(index, _untyped.decode(raws[index]))
    )
    return Decoded(
        events=list(accepted.values()),
        rejections=[verdict for verdict in verdicts if isinstance(verdict, Rejection)],
        count=count,
        warnings=list(islice(told, MAX_WARNINGS)),
    )


def _decode_one(index: int, raw: bytes) -> WireEvent | Rejection:
    if len(raw) > MAX_EVENT_BYTES:
        detail = f"the event has more than {MAX_EVENT_BYTES // 1024} KiB"
        return Rejection(index=index, id=None, code="too-large", detail=detail)
    try:
        wire = _decode_typed(index, truncate_time(raw))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        return Rejection(index=index, id=None, code="invalid-json", detail=f"not valid JSON: {reason}")
    except RecursionError:
        return Rejection(index=index, id=None, code="invalid-json", detail="nested too deeply")
    if isinstance(wire, Rejection):
        return wire
    if fault := _fault_of(raw):
        return _rejection_of_fault(index, shown_id(wire.id), fault)
    if problem := _problem_of(wire, raw):
        return Rejection(index=index, id=shown_id(wire.id), code="invalid-field", detail=problem)
    if _lacks_counters(wire) and (problem := unknown_usage(_untyped.decode(raw))):
        return Rejection(index=index, id=shown_id(wire.id), code="unknown-usage", detail=problem)
    return wire


def _problem_of(wire: WireEvent, raw: bytes) -> str | None:
    """What is wrong with a field of the right type; None if nothing is."""
    if not FIRST_YEAR <= wire.time.year <= LAST_YEAR:
        return f"time: expected a year from {FIRST_YEAR} to {LAST_YEAR}, got {wire.time.year}"
    if _ESCAPED_NUL in raw and (path := _path_of_nul(msgspec.to_builtins(wire, enc_hook=str))):
        return f"{path}: expected text without NUL (\\u0000)"
    named = (("subject", wire.subject), ("data.stream_id", wire.data.stream_id))
    return next(
        (f'{path}: expected an id other than "." and "..", got "{id_}"' for path, id_ in named if id_ in _DOTS),
        None,
    )


def _rejection_of_fault(index: int, event_id: str | None, fault: str) -> Rejection:
    if repeated := _REPEATED_KEY.match(fault):
        detail = f"{repeated[1][:_MAX_SHOWN]}: the key is repeated within one object; send it once"
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

"""OTLP in JSON: protobuf's JSON, but ids are hex and enums are numbers. Unknown fields are skipped.

64-bit integers come as text or as numbers. Any field may be null, which is its default.
"""

from typing import TypeVar

import msgspec
from msgspec import Struct

from metering.translations.otlp.records import InvalidOtlpError, Record, TooManyFieldsError, Value, next_place

# Counting takes a millisecond per MiB, and decoding this many values half a second.
MAX_FIELDS = 400_000
_MAX_LIST = 128
_MAX_DIGITS = 20
_UINT64 = 1 << 64

_T = TypeVar("_T")
_Integer = int | str | None


class _List(Struct, rename="camel"):
    values: "list[_AnyValue] | None" = None


class _AnyValue(Struct, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: _Integer = None
    double_value: float | str | None = None
    array_value: _List | None = None


class _KeyValue(Struct, rename="camel"):
    key: str | None = None
    value: _AnyValue | None = None


_KeyValues = list[_KeyValue] | None


class _Attributed(Struct, rename="camel"):
    name: str | None = None
    attributes: _KeyValues = None


class _Status(Struct, rename="camel"):
    message: str | None = None
    code: _Integer = None


class _Span(Struct, rename="camel"):
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    kind: _Integer = None
    start_time_unix_nano: _Integer = None
    end_time_unix_nano: _Integer = None
    attributes: _KeyValues = None
    events: list[_Attributed] | None = None
    status: _Status | None = None


class _LogRecord(Struct, rename="camel"):
    trace_id: str | None = None
    span_id: str | None = None
    time_unix_nano: _Integer = None
    observed_time_unix_nano: _Integer = None
    attributes: _KeyValues = None
    event_name: str | None = None


class _SpanGroup(Struct, rename="camel"):
    scope: _Attributed | None = None
    spans: list[_Span] | None = None


class _LogGroup(Struct, rename="camel"):
    scope: _Attributed | None = None
    log_records: list[_LogRecord] | None = None


class _ResourceSpans(Struct, rename="camel"):
    resource: _Attributed | None = None
    scope_spans: list[_SpanGroup] | None = None


class _ResourceLogs(Struct, rename="camel"):
    resource: _Attributed | None = None
    scope_logs: list[_LogGroup] | None = None


class _Traces(Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] | None = None


class _Logs(Struct, rename="camel"):
    resource_logs: list[_ResourceLogs] | None = None


_traces = msgspec.json.Decoder(_Traces)
_logs = msgspec.json.Decoder(_Logs)


def read_traces(body: bytes, *, names: frozenset[str]) -> list[Record]:
    """The spans of an ExportTraceServiceRequest, with those of their attributes that are in `names`.

    Raises:
        InvalidOtlpError: it is none.
        TooManyFieldsError: it has too many fields.
    """
    found: list[Record] = []
    for resource in _decoded(_traces, body).resource_spans or ():
        about = _attributes(resource.resource.attributes if resource.resource else None, names)
        for group in resource.scope_spans or ():
            scope = (group.scope and group.scope.name) or ""
            for span in group.spans or ():
                found.append(_span(next_place(found), about, scope, span, names))
    return found


def read_logs(body: bytes, *, names: frozenset[str]) -> list[Record]:
    """The log records of an ExportLogsServiceRequest, likewise."""
    found: list[Record] = []
    for resource in _decoded(_logs, body).resource_logs or ():
        about = _attributes(resource.resource.attributes if resource.resource else None, names)
        for group in resource.scope_logs or ():
            scope = (group.scope and group.scope.name) or ""
            for record in group.log_records or ():
                found.append(_log(next_place(found), about, scope, record, names))
    return found


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    if body.count(b",") > MAX_FIELDS:
        raise TooManyFieldsError(MAX_FIELDS)
    try:
        return decoder.decode(body)
    except RecursionError:
        raise InvalidOtlpError("nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidOtlpError("a text is not UTF-8") from None
    except msgspec.DecodeError as error:
        raise InvalidOtlpError(str(error)) from None


def _span(place: int, resource: dict[str, Value], scope: str, span: _Span, names: frozenset[str]) -> Record:
    status = span.status or _Status()
    exceptions = [
        _attributes(event.attributes, _EXCEPTION) for event in span.events or () if event.name == "exception"
    ]
    types = [kind for found in exceptions if isinstance(kind := found.get("exception.type"), str)]
    return Record(
        place=place,
        attributes=_attributes(span.attributes, names),
        resource=resource,
        scope=scope,
        trace_id=(span.trace_id or "").lower(),
        span_id=(span.span_id or "").lower(),
        parent_id=(span.parent_span_id or "").lower(),
        kind=_integer(span.kind),
        started_ns=_integer(span.start_time_unix_nano),
        ended_ns=_integer(span.end_time_unix_nano),
        status=_integer(status.code),
        status_message=status.message or "",
        exception=types[-1] if types else None,
    )


_EXCEPTION = frozenset({"exception.type"})
_EVENT_NAME = frozenset({"event.name"})


def _log(place: int, resource: dict[str, Value], scope: str, log: _LogRecord, names: frozenset[str]) -> Record:
    at = _integer(log.time_unix_nano) or _integer(log.observed_time_unix_nano)
    named = _attributes(log.attributes, _EVENT_NAME).get("event.name", "")
    return Record(
        place=place,
        attributes=_attributes(log.attributes, names),
        resource=resource,
        scope=scope,
        trace_id=(log.trace_id or "").lower(),
        span_id=(log.span_id or "").lower(),
        started_ns=at,
        ended_ns=at,
        event_name=log.event_name or str(named),
    )


def _attributes(given: _KeyValues, names: frozenset[str]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for each in given or ():
        if each.key in names and each.value is not None and (value := _value(each.value)) is not None:
            found[each.key] = value
    return found


def _value(given: _AnyValue) -> Value | None:
    if given.string_value is not None:
        return given.string_value
    if given.bool_value is not None:
        return given.bool_value
    if given.int_value is not None:
        return _integer(given.int_value, least=-_UINT64)
    if given.array_value is not None:
        texts = [each.string_value for each in given.array_value.values or ()]
        return [text for text in texts if text is not None][:_MAX_LIST]
    return given.double_value


def _integer(given: _Integer, *, least: int = 0) -> int:
    """An integer of at most 64 bits; 0 if there is none.

    Raises:
        InvalidOtlpError: it is none.
    """
    if isinstance(given, str):
        digits = given.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS):
            raise InvalidOtlpError(f"expected an integer, got {given[:30]!r}")
        given = int(given)
    if given is None:
        return 0
    if not least <= given < _UINT64:
        raise InvalidOtlpError(f"expected an integer of 64 bits, got {str(given)[:30]}")
    return given

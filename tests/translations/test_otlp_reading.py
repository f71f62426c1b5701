"""OTLP bodies: what is read of them is what the library reads, in both formats; what is no request is refused."""

import base64
import contextlib
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from metering.translations.otlp import json_body, protobuf
from metering.translations.otlp.names import READ
from metering.translations.otlp.records import InvalidOtlpError, Record, TooManyFieldsError
from metering.translations.otlp.rules import Rules
from metering.translations.otlp.translate import Payer, translate_logs, translate_traces
from tests.builders.otlp import CALL, ENDED, STARTED, log, logs, span, traces

_READ = sorted(READ)
_values = st.one_of(
    st.text(max_size=20),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text(max_size=5), max_size=4),
    st.binary(max_size=9),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)
_attributes = st.dictionaries(st.sampled_from([*_READ, "prompt", "", "gen_ai"]), _values, max_size=8)
_hex16, _hex8 = st.binary(max_size=20).map(bytes.hex), st.binary(max_size=9).map(bytes.hex)
_times = st.integers(0, 2**64 - 1)
_spans = st.builds(
    span,
    _attributes,
    scope=st.text(max_size=9),
    trace_id=_hex16,
    span_id=_hex8,
    parent_span_id=_hex8,
    kind=st.integers(0, 5),
    start_time_unix_nano=_times,
    end_time_unix_nano=_times,
    dropped_attributes_count=st.integers(0, 2**32 - 1),
    trace_state=st.text(max_size=9),
    flags=st.integers(0, 2**32 - 1),
    events=st.lists(st.tuples(st.sampled_from(["exception", "x"]), st.just({"exception.type": "E"})), max_size=3),
    status=st.tuples(st.integers(0, 2), st.text(max_size=9)),
)
_records = st.builds(
    log,
    _attributes,
    scope=st.text(max_size=9),
    trace_id=_hex16,
    span_id=_hex8,
    time_unix_nano=_times,
    observed_time_unix_nano=_times,
    event_name=st.text(max_size=9),
)


def json_of(body: bytes, request: Any) -> bytes:
    """OTLP/JSON of a request: protobuf's JSON of the library, with ids in hex."""
    request.ParseFromString(body)
    return json.dumps(_with_hex_ids(MessageToDict(request, use_integers_for_enums=True))).encode()


def _with_hex_ids(written: Any) -> Any:
    if isinstance(written, list):
        return [_with_hex_ids(each) for each in written]
    if not isinstance(written, dict):
        return written
    return {
        name: base64.b64decode(value).hex()
        if name in ("traceId", "spanId", "parentSpanId")
        else _with_hex_ids(value)
        for name, value in written.items()
    }


@given(st.lists(_spans, max_size=3), _attributes)
@settings(max_examples=150)
def test_spans_are_read_as_the_library_writes_them(given_spans: list[dict[str, Any]], resource: Any) -> None:
    body = traces(*given_spans, resource=resource)
    found = protobuf.read_traces(body, names=READ)
    assert [_plain(each) for each in found] == [_expected(each, resource) for each in given_spans]
    assert json_body.read_traces(json_of(body, ExportTraceServiceRequest()), names=READ) == found


@given(st.lists(_records, max_size=3), _attributes)
@settings(max_examples=100)
def test_log_records_are_read_as_the_library_writes_them(records: list[dict[str, Any]], resource: Any) -> None:
    body = logs(*records, resource=resource)
    found = protobuf.read_logs(body, names=READ)
    assert [each.event_name for each in found] == [each["event_name"] for each in records]
    assert [each.started_ns for each in found] == [
        each["time_unix_nano"] or each["observed_time_unix_nano"] for each in records
    ]
    assert [each.attributes for each in found] == [_read(each["attributes"]) for each in records]
    assert json_body.read_logs(json_of(body, ExportLogsServiceRequest()), names=READ) == found


def _plain(record: Record) -> dict[str, Any]:
    return {
        "attributes": record.attributes,
        "resource": record.resource,
        "scope": record.scope,
        "ids": (record.trace_id, record.span_id, record.parent_id),
        "kind": record.kind,
        "times": (record.started_ns, record.ended_ns),
        "status": (record.status, record.status_message),
        "exception": record.exception,
    }


def _expected(given: dict[str, Any], resource: Any) -> dict[str, Any]:
    return {
        "attributes": _read(given["attributes"]),
        "resource": _read(resource),
        "scope": given["scope"],
        "ids": (given["trace_id"], given["span_id"], given["parent_span_id"]),
        "kind": given["kind"],
        "times": (given["start_time_unix_nano"], given["end_time_unix_nano"]),
        "status": given["status"],
        "exception": "E" if any(name == "exception" for name, _ in given["events"]) else None,
    }


def _read(attributes: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in attributes.items()
        if name in READ and isinstance(value, str | bool | int | float | list)
    }


@given(st.binary(max_size=400))
@settings(max_examples=400)
def test_any_bytes_are_a_request_or_are_refused(body: bytes) -> None:
    for translate in (translate_traces, translate_logs):
        for is_json in (False, True):
            with contextlib.suppress(InvalidOtlpError):
                translate(body, is_json=is_json, rules=Rules(), payer=Payer())


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_request_is_read_or_refused(data: st.DataObject) -> None:
    whole = traces(span(), span(span_id="aaaaaaaaaaaaaaaa", events=[("exception", {"exception.type": "E"})]))
    body = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3)) if body else 0):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidOtlpError):
        translate_traces(bytes(body), is_json=False, rules=Rules(), payer=Payer())


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",
        b"\x0a\x05\x12",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x02\x00",
        b"\x0b\x0c",
        b"\x0f",
        traces(span({**CALL, "gen_ai.request.model": "x" * 40})).replace(b"x" * 40, b"\xff" * 40),
    ],
    ids=["no length", "cut", "huge number", "field 0", "a group", "unused kind", "no UTF-8"],
)
def test_what_is_no_protobuf_is_refused_with_the_reason(body: bytes) -> None:
    with pytest.raises(InvalidOtlpError, match="not an OTLP request: "):
        protobuf.read_traces(body, names=READ)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"resourceSpans": 7}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "x"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "-1"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"endTimeUnixNano": %d}]}]}]}' % 2**64,
        b'{"resourceSpans": ' + b"[" * 100_000,
        b'{"resourceSpans": [{"resource": {"attributes": [{"value": ' + b'{"arrayValue": {"values": [' * 50_000,
        b'{"resourceSpans": "\xff"}',
    ],
)
def test_what_is_no_json_of_otlp_is_refused_with_the_reason(body: bytes) -> None:
    with pytest.raises(InvalidOtlpError, match="not an OTLP request: "):
        json_body.read_traces(body, names=READ)


def test_json_may_have_numbers_as_text_nulls_and_fields_that_are_not_known() -> None:
    document = {
        "resourceSpans": [
            {
                "resource": None,
                "new": [{"deep": []}],
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "ABCDEF",
                                "kind": "3",
                                "startTimeUnixNano": str(STARTED),
                                "endTimeUnixNano": ENDED,
                                "events": None,
                                "attributes": [
                                    {"key": "gen_ai.usage.input_tokens", "value": {"intValue": 7}},
                                    {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "8"}},
                                    {"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": {}}},
                                    {"key": "error.type", "value": {"doubleValue": "NaN"}},
                                    {"key": "user.id", "value": {}},
                                    {"key": "user.id"},
                                    {"value": {"stringValue": "x"}},
                                ],
                            }
                        ]
                    }
                ],
            }
        ]
    }
    (record,) = json_body.read_traces(json.dumps(document).encode(), names=READ)
    assert (record.trace_id, record.kind, record.started_ns, record.ended_ns) == ("abcdef", 3, STARTED, ENDED)
    assert record.attributes == {
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 8,
        "gen_ai.response.finish_reasons": [],
        "error.type": "NaN",
    }


def test_a_body_of_very_many_fields_is_refused_before_it_is_read_to_its_end() -> None:
    for count, refused in ((1_100_000, "1,000,000 fields"), (100_001, "100,000 records")):
        spans = b"\x12\x00" * count
        scope = b"\x12" + _length(spans) + spans
        with pytest.raises(TooManyFieldsError, match=refused):
            protobuf.read_traces(b"\x0a" + _length(scope) + scope, names=READ)
    many = b'{"resourceSpans": [{"scopeSpans": [{"spans": [' + b"{}," * 100_000 + b"{}]}]}]}"
    with pytest.raises(TooManyFieldsError, match="100,000 records"):
        json_body.read_traces(many, names=READ)
    with pytest.raises(TooManyFieldsError, match="400,000 fields"):
        json_body.read_traces(b'{"resourceSpans": [' + b"{}," * 400_001 + b"{}]}", names=READ)


def _length(part: bytes) -> bytes:
    size, written = len(part), bytearray()
    while size > 0x7F:
        written.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*written, size])

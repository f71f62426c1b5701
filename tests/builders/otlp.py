"""OTLP requests of a few spans or log records, made with the protocol's own messages."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from metering.translations.otlp.rules import Rules
from metering.translations.otlp.translate import Payer, translate_logs, translate_traces
from metering.translations.translated import Translated

TRACE, SPAN, PARENT = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174", "eee19b7ec3c1b173"
# 2026-11-23T15:00:00Z, and four and a half seconds later.
STARTED, ENDED = 1_795_446_000_000_000_000, 1_795_446_004_500_000_000
CLIENT, SERVER, INTERNAL = 3, 2, 1
CALL_EVENT = "gen_ai.client.inference.operation.details"

# 812 tokens in and 37 out, at 5 and 25 USD a million: 0.4985 cents.
CALL: Mapping[str, Any] = {
    "metering.customer_id": "acme",
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "claude-opus-4.7",
    "gen_ai.usage.input_tokens": 812,
    "gen_ai.usage.output_tokens": 37,
}


def without(*names: str, **more: Any) -> dict[str, Any]:
    """The attributes of a call without some of them."""
    return {name: value for name, value in CALL.items() if name not in names} | more


def span(attributes: Mapping[str, Any] = CALL, *, scope: str = "tests", **fields: Any) -> dict[str, Any]:
    """A span; fields are those of the protocol, ids in hex."""
    known = {"trace_id": TRACE, "span_id": SPAN, "kind": CLIENT, "name": "chat"}
    times = {"start_time_unix_nano": STARTED, "end_time_unix_nano": ENDED}
    return {"scope": scope, "attributes": attributes, **known, **times, **fields}


def log(attributes: Mapping[str, Any] = CALL, *, scope: str = "tests", **fields: Any) -> dict[str, Any]:
    """A log record, likewise."""
    known = {"trace_id": TRACE, "span_id": SPAN, "event_name": CALL_EVENT, "time_unix_nano": ENDED}
    return {"scope": scope, "attributes": attributes, **known, **fields}


def traces(*spans: Mapping[str, Any], resource: Mapping[str, Any] | None = None) -> bytes:
    """An ExportTraceServiceRequest in protobuf."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    _set(group.resource, attributes=resource or {})
    for each in spans:
        scoped = group.scope_spans.add()
        scoped.scope.name = each["scope"]
        _set(scoped.spans.add(), **{name: value for name, value in each.items() if name != "scope"})
    return bytes(request.SerializeToString())


def logs(*records: Mapping[str, Any], resource: Mapping[str, Any] | None = None) -> bytes:
    """An ExportLogsServiceRequest in protobuf."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    _set(group.resource, attributes=resource or {})
    for each in records:
        scoped = group.scope_logs.add()
        scoped.scope.name = each["scope"]
        _set(scoped.log_records.add(), **{name: value for name, value in each.items() if name != "scope"})
    return bytes(request.SerializeToString())


def translated(
    *spans: Mapping[str, Any],
    rules: Rules | None = None,
    payer: Payer | None = None,
    resource: Mapping[str, Any] | None = None,
) -> Translated:
    """What becomes of spans."""
    body = traces(*spans, resource=resource)
    return translate_traces(body, is_json=False, rules=rules or Rules(), payer=payer or Payer())


def translated_logs(*records: Mapping[str, Any], rules: Rules | None = None) -> Translated:
    """What becomes of log records."""
    return translate_logs(logs(*records), is_json=False, rules=rules or Rules(), payer=Payer())


def billed(given: Translated) -> list[str]:
    """The span ids of the streams that begin, in their order."""
    return [
        str(each.event["data"]["stream_id"]).partition("-")[2]  # type: ignore[index]
        for each in given.events
        if each.event["type"] == "stream-start"
    ]


def data_of(given: Translated) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data of the one stream-start and of the one stream-end."""
    start, end = (each.event for each in given.events)
    assert (start["type"], end["type"]) == ("stream-start", "stream-end")
    return dict(start["data"]), dict(end["data"])  # type: ignore[call-overload]


def _set(message: Message, **fields: Any) -> None:
    target: Any = message
    for name, value in fields.items():
        if name == "attributes":
            for key, each in value.items():
                added = target.attributes.add()
                added.key = key
                _set_value(added.value, each)
        elif name == "events":
            for event, attributes in value:
                _set(target.events.add(), name=event, attributes=attributes)
        elif name == "status":
            target.status.code, target.status.message = value
        elif name.endswith("_id"):
            setattr(target, name, bytes.fromhex(value))
        else:
            setattr(target, name, value)


def _set_value(target: Any, value: Any) -> None:
    match value:
        case bool():
            target.bool_value = value
        case int():
            target.int_value = value
        case float():
            target.double_value = value
        case str():
            target.string_value = value
        case bytes():
            target.bytes_value = value
        case Sequence():
            target.array_value.SetInParent()
            for each in value:
                _set_value(target.array_value.values.add(), each)
        case Mapping():
            for key, each in value.items():
                added = target.kvlist_value.values.add()
                added.key = key
                _set_value(added.value, each)

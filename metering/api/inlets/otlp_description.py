"""The OpenAPI description of OTLP's paths."""

from typing import Any

from metering.access.scopes import Scope
from metering.api.ingest_problems import INGEST_PROBLEMS
from metering.api.inlets.otlp import JSON, PROTOBUF
from metering.api.routes import problem_responses
from metering.translations.otlp.records import InvalidOtlpError, TooManyFieldsError
from metering.translations.otlp.translate import MAX_CALLS, TooManyCallsError

Schema = dict[str, Any]

_REF = "#/components/schemas/"
_BINARY = {"type": "string", "format": "binary"}
_TEXT = f"""
OTLP/HTTP: `{PROTOBUF}` or `{JSON}`, as OpenTelemetry's exporters send it, with `Content-Encoding`
`gzip`, `deflate`, `zstd` or none. {{what}} The answer comes once the streams are committed with fsync; it is in
the format of the request. What could not be billed is counted in `partialSuccess`, with the reasons. A body has
at most 8 MiB, as sent and decompressed, and {MAX_CALLS:,} calls. Sending a request again changes nothing.
""".strip()
_SPANS = "Each span of a call to a model becomes a stream; all other spans are passed over."
_LOGS = (
    "Each event `gen_ai.client.inference.operation.details` becomes a stream; all other records are passed over."
)


def otlp_paths() -> Schema:
    """The paths of the description."""
    return {
        "/v1/traces": {"post": _post("postTraces", "Post OTLP traces", _SPANS, "OtlpTraces", _SPAN_EXAMPLE)},
        "/v1/logs": {"post": _post("postLogs", "Post OTLP logs", _LOGS, "OtlpLogs", _LOG_EXAMPLE)},
    }


def otlp_schemas() -> Schema:
    """The schemas that they refer to."""
    return {
        "OtlpTraces": _request("ExportTraceServiceRequest", "resourceSpans", "Spans by resource and scope."),
        "OtlpLogs": _request("ExportLogsServiceRequest", "resourceLogs", "Log records by resource and scope."),
        "OtlpTracesAnswer": _answer("ExportTraceServiceResponse", "OtlpRejectedSpans"),
        "OtlpLogsAnswer": _answer("ExportLogsServiceResponse", "OtlpRejectedLogs"),
        "OtlpRejectedSpans": _rejected("rejectedSpans", "spans"),
        "OtlpRejectedLogs": _rejected("rejectedLogRecords", "log records"),
    }


def _post(name: str, summary: str, what: str, schema: str, example: Schema) -> Schema:
    problems = problem_responses(*INGEST_PROBLEMS, InvalidOtlpError, TooManyFieldsError, TooManyCallsError)
    accepted = {
        "description": "All streams are durable. `partialSuccess` counts what was left out.",
        "content": {JSON: {"schema": {"$ref": f"{_REF}{schema}Answer"}}, PROTOBUF: {"schema": _BINARY}},
    }
    return {
        "tags": ["events"],
        "operationId": name,
        "summary": summary,
        "description": _TEXT.format(what=what),
        "x-scope": Scope.EVENTS_WRITE.value,
        "security": [{"HTTPBearer": []}],
        "requestBody": {
            "required": True,
            "description": "An OTLP request. In protobuf it is the message of the same name.",
            # One media type, because client generators choose between several by the type of the body.
            "content": {JSON: {"schema": {"$ref": f"{_REF}{schema}"}, "examples": {"call": {"value": example}}}},
        },
        "responses": {"200": accepted, **{str(status): each for status, each in problems.items()}},
    }


def _request(message: str, field: str, description: str) -> Schema:
    # Protobuf's JSON takes null for a field that is not set.
    groups = {"type": ["array", "null"], "items": {"type": "object"}, "description": description}
    return {"type": "object", "description": f"OTLP's `{message}` in JSON.", "properties": {field: groups}}


def _answer(message: str, partial: str) -> Schema:
    return {
        "type": "object",
        "description": f"OTLP's `{message}` in JSON.",
        "properties": {"partialSuccess": {"$ref": f"{_REF}{partial}"}},
    }


def _rejected(field: str, what: str) -> Schema:
    return {
        "type": "object",
        "description": f"The {what} that were left out; exporters do not send them again.",
        "required": [field, "errorMessage"],
        "properties": {
            field: {"type": "string", "pattern": "^[0-9]+$", "description": f"How many {what}, as text."},
            "errorMessage": {"type": "string", "description": "Why, and what to do."},
        },
    }


def _texts(**named: str) -> list[Schema]:
    return [{"key": key.replace("__", "."), "value": {"stringValue": value}} for key, value in named.items()]


def _integers(**named: int) -> list[Schema]:
    return [{"key": key.replace("__", "."), "value": {"intValue": str(value)}} for key, value in named.items()]


_ATTRIBUTES = [
    *_texts(metering__customer_id="acme", gen_ai__operation__name="chat", gen_ai__provider__name="openai"),
    *_texts(gen_ai__request__model="gpt-4o", gen_ai__response__id="chatcmpl-9J3uIL87gldCFtiIbyaOvTeYBRA3l"),
    *_integers(gen_ai__usage__input_tokens=812, gen_ai__usage__output_tokens=37),
]
_IDS = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"}
_SCOPE = {"name": "opentelemetry.util.genai.handler"}
_SPAN = {
    **_IDS,
    "name": "chat gpt-4o",
    "kind": 3,
    "startTimeUnixNano": "1795446000000000000",
    "endTimeUnixNano": "1795446004500000000",
    "attributes": _ATTRIBUTES,
}
_RECORD = {
    **_IDS,
    "timeUnixNano": "1795446004500000000",
    "eventName": "gen_ai.client.inference.operation.details",
    "attributes": _ATTRIBUTES,
}
_SPAN_EXAMPLE: Schema = {"resourceSpans": [{"scopeSpans": [{"scope": _SCOPE, "spans": [_SPAN]}]}]}
_LOG_EXAMPLE: Schema = {"resourceLogs": [{"scopeLogs": [{"scope": _SCOPE, "logRecords": [_RECORD]}]}]}

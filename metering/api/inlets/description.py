"""The OpenAPI description of the paths for other senders' formats, which are plain ASGI."""

from typing import Any

from metering.access.scopes import Scope
from metering.api.ingest_problems import INGEST_PROBLEMS
from metering.api.inlets.access_log import DIALECTS
from metering.api.problems import InvalidParameterError, NoRecordAcceptedError
from metering.api.routes import problem_responses
from metering.core.errors import MeteringError
from metering.events.wire.decode import MAX_EVENTS, TooManyEventsError, TooManyValuesError
from metering.events.wire.split import InvalidJsonError

Schema = dict[str, Any]

_REF = "#/components/schemas/"
_PROBLEMS = (*INGEST_PROBLEMS, TooManyEventsError, TooManyValuesError, NoRecordAcceptedError, InvalidJsonError)
_SHARED = f"""
Each record becomes a stream-start and a stream-end, and records may be sent again at any time. A request has at
most 8 MiB and {MAX_EVENTS // 2:,} completions; `Content-Encoding` may be `gzip`, `deflate` or `zstd`. Records
without a customer, a provider, a model or a usage are left out with the reason, and counted in
`metering_records_left_out`. If none is accepted, the answer is 400.
""".strip()
_OPENMETER = f"""
OpenMeter's usage events, which Kong's plugin metering-and-billing posts, too: one CloudEvent or a batch. What the
`data` of a type says of tokens is declared (`METERING_OPENMETER_TYPES`). The subject is the customer.

{_SHARED}
""".strip()
_ACCESS_LOG = f"""
Lines of the access logs of Envoy AI Gateway, Apache APISIX (http-logger) or Higress: an array, or one a line.
Lines that report no completion are passed over.

{_SHARED}
""".strip()
_LITELLM = f"""
What LiteLLM's logger `generic_api` posts: its StandardLoggingPayload of each call. Prompts and answers are neither
read nor stored, and answers from LiteLLM's cache are passed over.

{_SHARED}
""".strip()
_USAGE_EVENT = {
    "specversion": "1.0",
    "type": "prompt",
    "id": "5c10fade-1c9e-4d6c-8275-c52c36731d3c",
    "source": "my-app",
    "subject": "acme",
    "time": "2026-11-23T15:00:00.123Z",
    "data": {"tokens": 812, "model": "gpt-4o", "type": "input"},
}
_LINE = {
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.provider.name": "default/openai/route/llm/rule/0/ref/0",
    "gen_ai.usage.input_tokens": 15,
    "gen_ai.usage.output_tokens": 7,
    "start_time": "2026-11-23T15:00:00.123Z",
    "duration": 1526,
    "response_code": 200,
    "response_flags": "-",
    "x-request-id": "83b63da3-45a9-4196-98b8-1a7f697d6d8d",
    "customer_id": "acme",
}
_PAYLOAD = {
    "id": "chatcmpl-1",
    "litellm_call_id": "70a1cdc2-fa3f-4aaa-9282-056e6fd6aa4c",
    "call_type": "acompletion",
    "status": "success",
    "custom_llm_provider": "openai",
    "model": "gpt-4o",
    "startTime": 1795984307.960538,
    "endTime": 1795984308.68,
    "end_user": "acme",
    "metadata": {"usage_object": {"prompt_tokens": 812, "completion_tokens": 37}},
}
_DIALECT = {
    "name": "dialect",
    "in": "query",
    "required": True,
    "description": "Whose log it is.",
    "schema": {"type": "string", "enum": list(DIALECTS)},
}


def inlet_paths() -> dict[str, Schema]:
    """The operations, by their paths."""
    log = _operation("postAccessLog", "Post lines of access logs", _ACCESS_LOG, _LINE, InvalidParameterError)
    payloads = _operation("postLiteLLMPayloads", "Post LiteLLM's payloads", _LITELLM, _PAYLOAD)
    events = _operation("postOpenMeterEvents", "Post OpenMeter's events", _OPENMETER, _USAGE_EVENT)
    empty = {"204": {"description": "The accepted events are durable."}}
    events["responses"] = {**empty, **{name: each for name, each in events["responses"].items() if name != "200"}}
    third = {**events, "operationId": "postOpenMeterEventsV3", "summary": "Post OpenMeter's events, version 3"}
    return {
        "/v1/events/access-log": {"post": {**log, "parameters": [_DIALECT]}},
        "/v1/events/litellm": {"post": payloads},
        "/api/v1/events": {"post": events},
        "/v3/openmeter/events": {"post": third},
    }


def _operation(name: str, summary: str, description: str, example: Schema, *more: type[MeteringError]) -> Schema:
    accepted = {
        "description": "The accepted records are durable. Each other one is listed with the reason.",
        "content": {"application/json": {"schema": {"$ref": f"{_REF}AcceptedRecords"}}},
    }
    problems = problem_responses(*_PROBLEMS, *more)
    record = {"type": "object", "description": "A record in the sender's format."}
    batch = {"type": "array", "items": record, "description": "A batch of them."}
    return {
        "tags": ["events"],
        "operationId": name,
        "summary": summary,
        "description": description,
        "x-scope": Scope.EVENTS_WRITE.value,
        "security": [{"HTTPBearer": []}],
        "requestBody": {
            "required": True,
            "description": "One record, or a batch.",
            "content": {
                "application/json": {
                    "schema": {"oneOf": [record, batch]},
                    "examples": {"record": {"value": example}, "batch": {"value": [example]}},
                }
            },
        },
        "responses": {"200": accepted, **{str(status): response for status, response in problems.items()}},
    }


def inlet_schemas() -> dict[str, Schema]:
    """The components that only these paths have."""
    rejected = {"type": "array", "items": {"$ref": f"{_REF}RejectedEvent"}}
    return {
        "AcceptedRecords": {
            "type": "object",
            "description": "The answer once the accepted records are durable.",
            "required": ["accepted", "rejected"],
            "properties": {
                "accepted": {"type": "integer", "description": "How many records became a stream."},
                "rejected": {**rejected, "description": "Those that did not, with the reason."},
            },
        }
    }

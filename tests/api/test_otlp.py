"""POST /v1/traces and /v1/logs: what is billed, what the answers say, and what is refused."""

import gzip
import json
from collections.abc import Mapping
from typing import Any

import httpx2
import psycopg
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from metering.access.scopes import Role
from metering.api.inlets.otlp_description import otlp_paths
from metering.events.wire.bodies import unpack_body
from metering.translations.otlp.translate import MAX_CALLS
from tests.builders.otlp import (
    CALL,
    ENDED,
    INTERNAL,
    PARENT,
    SERVER,
    SPAN,
    STARTED,
    TRACE,
    log,
    logs,
    span,
    traces,
    without,
)
from tests.database import Database
from tests.metrics import Scrape
from tests.running_api import Api

PROTOBUF, JSON = "application/x-protobuf", "application/json"
STREAM = f"/v1/streams/acme/{TRACE}-{SPAN}"
EXAMPLES = {
    path: operation["post"]["requestBody"]["content"][JSON]["examples"]["call"]["value"]
    for path, operation in otlp_paths().items()
}


def post(api: Api, body: bytes, *, path: str = "/v1/traces", media_type: str = PROTOBUF, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.client.post(path, content=body, headers={"content-type": media_type, **named})


def rejected(answer: httpx2.Response) -> tuple[int, str]:
    """What a protobuf answer counts and says, read by the protocol's own message."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF)
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    return partial.rejected_spans, partial.error_message


def cost_of(api: Api, path: str = STREAM) -> Mapping[str, Any]:
    api.finalize()
    stream: Mapping[str, Any] = api.client.get(path).json()
    return stream


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_span_in_protobuf_is_billed_exactly_once_however_often_it_is_sent(api: Api, encoding: str) -> None:
    body = gzip.compress(traces(span())) if encoding else traces(span())
    headers = {"content_encoding": encoding} if encoding else {}
    for _ in range(3):
        answer = post(api, body, **headers)
        assert (rejected(answer), answer.content) == ((0, ""), b"")
    stream = cost_of(api)
    assert (stream["state"], stream["cost_usd_cents"]) == ("finalized", "0.4985")
    assert (stream["usage_source"], stream["inlet"]) == ("provider", "otlp")
    assert (stream["started_at"], stream["ended_at"]) == ("2026-11-23T15:00:00Z", "2026-11-23T15:00:04.500Z")
    assert api.client.get(f"{STREAM}/receipt").json()["bill"]["inlet"] == "otlp"
    (total,) = api.client.get("/v1/totals?from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z").json()["data"]
    assert (total["stream_count"], total["cost_usd_cents"]) == (1, "0.4985")


@pytest.mark.parametrize("path", EXAMPLES)
def test_the_examples_of_the_description_are_billed(api: Api, path: str) -> None:
    answer = post(api, json.dumps(EXAMPLES[path]).encode(), path=path, media_type=JSON)
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (200, JSON, {})
    api.finalize()
    (charge,) = api.client.get("/v1/charges").json()["data"]
    assert (charge["customer_id"], charge["provider"], charge["inlet"]) == ("acme", "openai", "otlp")


def test_a_log_record_in_protobuf_is_billed_and_its_span_adds_nothing(api: Api) -> None:
    answer = post(api, logs(log()), path="/v1/logs")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, PROTOBUF, b"")
    assert cost_of(api)["cost_usd_cents"] == "0.4985"
    post(api, traces(span(parent_span_id=PARENT)))
    stream = cost_of(api)
    assert (stream["state"], stream["cost_usd_cents"]) == ("finalized", "0.4985")
    # The span knows when the call began, which the event does not.
    assert stream["started_at"] == "2026-11-23T15:00:00Z"


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs"])
@pytest.mark.parametrize(
    ("media_type", "body"), [(PROTOBUF, b""), (JSON, b"{}"), ("application/json; charset=utf-8", b"{}")]
)
def test_an_empty_request_is_accepted(shared_api: Api, path: str, media_type: str, body: bytes) -> None:
    answer = post(shared_api, body, path=path, media_type=media_type)
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["content-type"] == media_type.partition(";")[0]


def test_what_could_not_be_billed_is_counted_and_told_and_its_neighbours_are_billed(api: Api) -> None:
    unpaid = without("metering.customer_id")
    bad = [span(unpaid, span_id=f"{number:016x}") for number in (1, 2)]
    count, message = rejected(post(api, traces(*bad, span(), span({"http.route": "/"}, span_id="a" * 16))))
    assert count == 2
    assert message.startswith("no customer: none of metering.customer_id, enduser.id, user.id is set")
    assert message.endswith("(2 times)")
    assert cost_of(api)["cost_usd_cents"] == "0.4985"
    samples = Scrape(api.client.get("/metrics").text).samples
    counted = {
        name: dict(labels)["inlet"] for name, labels in samples if name == "metering_records_left_out_total"
    }
    assert counted == {"metering_records_left_out_total": "otlp"}


def test_a_request_of_which_nothing_could_be_billed_is_not_to_be_sent_again(shared_api: Api) -> None:
    assert rejected(post(shared_api, traces(span(kind=SERVER))))[0] == 1
    answer = post(shared_api, logs(log(without("metering.customer_id"))), path="/v1/logs")
    partial = ExportLogsServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, partial.rejected_log_records) == (200, 1)


def test_what_the_ingest_refuses_is_told_of_its_span(shared_api: Api) -> None:
    count, message = rejected(post(shared_api, traces(span({**CALL, "metering.customer_id": "a\nb"}))))
    assert (count, message.split(":")[0]) == (1, "subject")
    odd = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "x", "attributes": _attributes(CALL)}]}]}]}
    answer = post(shared_api, json.dumps(odd).encode(), media_type=JSON).json()
    assert answer["partialSuccess"]["rejectedSpans"] == "1"


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue" if isinstance(value, int) else "stringValue": value}}
        for key, value in values.items()
    ]


BAD: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"\x0a\x05", {}, 400, "invalid-otlp"),
    (b"{", {"media_type": JSON}, 400, "invalid-otlp"),
    (b"[]", {"media_type": JSON}, 400, "invalid-otlp"),
    (b"", {"media_type": JSON}, 400, "invalid-otlp"),
    (b'{"resourceSpans": "\xff"}', {"media_type": JSON}, 400, "invalid-otlp"),
    (b"x", {"media_type": "text/plain"}, 415, "unsupported-body"),
    (b"x", {"media_type": "application/x-ndjson"}, 415, "unsupported-body"),
    (b"x", {"content_encoding": "br"}, 415, "unsupported-body"),
    (b"x", {"content_encoding": "deflate"}, 422, "invalid-encoding"),
    (b"x", {"content_encoding": "gzip"}, 422, "invalid-encoding"),
    (gzip.compress(b"\x0a\x05"), {"content_encoding": "gzip"}, 400, "invalid-otlp"),
    (gzip.compress(b" " * 9_000_000), {"content_encoding": "gzip"}, 413, "body-too-large"),
    (b"\x12\x00" * 1_100_000, {}, 413, "too-many-values"),
    (b'{"x": [' + b"1," * 400_001 + b"1]}", {"media_type": JSON}, 413, "too-many-values"),
    (
        traces(*(span(span_id=f"{number:016x}") for number in range(1, MAX_CALLS + 2))),
        {},
        413,
        "too-many-events",
    ),
]


@pytest.mark.parametrize(("body", "how", "status", "slug"), BAD, ids=range(len(BAD)))
def test_what_is_no_request_is_refused_for_good(
    shared_api: Api, body: bytes, how: dict[str, str], status: int, slug: str
) -> None:
    answer = post(shared_api, body, **how)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    assert "retry-after" not in answer.headers


def test_a_surrogate_of_json_is_refused_or_left_out(shared_api: Api) -> None:
    for name in (
        "metering.customer_id",
        "gen_ai.request.model",
        "gen_ai.response.id",
        "llm.invocation_parameters",
    ):
        sent = _attributes({**CALL, name: "SURROGATE"})
        span_ids = {"traceId": TRACE, "spanId": SPAN, "startTimeUnixNano": STARTED, "endTimeUnixNano": ENDED}
        document = {"resourceSpans": [{"scopeSpans": [{"spans": [{**span_ids, "kind": 3, "attributes": sent}]}]}]}
        body = json.dumps(document).replace("SURROGATE", r"\ud800 and twenty more characters").encode()
        assert post(shared_api, body, media_type=JSON).status_code in (200, 400)


def test_only_keys_that_may_post_events_may_post_traces(api: Api) -> None:
    headers = {"content-type": PROTOBUF}
    with api.client_with(Role.READ) as reader:
        assert reader.post("/v1/traces", content=traces(span()), headers=headers).status_code == 403
    with api.client_with(Role.INGEST, customer_id="umbrella") as bound:
        assert rejected(bound.post("/v1/traces", content=traces(span()), headers=headers)) == (0, "")
    assert cost_of(api, STREAM.replace("acme", "umbrella"))["cost_usd_cents"] == "0.4985"


def test_a_failed_attempt_and_its_retry_are_linked_and_both_are_billed(api: Api) -> None:
    failed = without("gen_ai.usage.output_tokens", **{"error.type": "APIConnectionError"})
    first = span(failed, span_id="1" * 16, parent_span_id=PARENT, end_time_unix_nano=STARTED + 10**9)
    again = span(span_id="2" * 16, parent_span_id=PARENT, start_time_unix_nano=STARTED + 2 * 10**9)
    post(api, traces(again))
    post(api, traces(first))
    api.finalize()
    api.finalize()
    tried, retried = (api.client.get(f"/v1/streams/acme/{TRACE}-{number * 16}").json() for number in "12")
    assert (tried["outcome"], tried["cost_usd_cents"], tried["retry_of"]) == ("failed", "0.406", None)
    assert (retried["outcome"], retried["cost_usd_cents"]) == ("completed", "0.4985")
    assert retried["retry_of"] == f"{TRACE}-{'1' * 16}"


def test_a_call_without_a_usage_waits_for_a_person_and_is_not_free_in_silence(api: Api) -> None:
    post(api, traces(span(without("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"))))
    assert cost_of(api)["state"] == "unmeasured"


def test_the_root_and_the_child_of_a_call_cost_once_in_one_request_and_in_two(api: Api) -> None:
    root, child = span(span_id=PARENT, kind=SERVER), span(parent_span_id=PARENT)
    assert rejected(post(api, traces(root, child))) == (0, "")
    post(api, traces(root))
    post(api, traces(child))
    answered = {**CALL, "gen_ai.response.id": "msg_01XFDUDYJgAACzvnptvVoYEL"}
    outer, inner = span(answered, kind=INTERNAL), span(answered, parent_span_id=SPAN, span_id="3" * 16)
    for sent in ([outer], [inner], [outer, inner]):
        assert rejected(post(api, traces(*({**each, "trace_id": "a" * 32} for each in sent)))) == (0, "")
    api.finalize()
    (total,) = api.client.get("/v1/totals?from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z").json()["data"]
    assert (total["stream_count"], total["cost_usd_cents"]) == (2, "0.997")
    assert api.client.get("/v1/backlog").json()["data"] == []


def test_the_journal_has_the_events_and_nothing_of_what_was_said(api: Api, rated_database: Database) -> None:
    secret = "the merger is on Friday"
    spoken = {**CALL, "gen_ai.input.messages": secret, "input.value": secret, "llm.prompts": secret}
    post(api, traces(span(spoken, name=secret, events=[("gen_ai.choice", {"message": secret})])))
    with psycopg.connect(rated_database.url) as connection:
        ((media_type, count, kept),) = connection.execute(
            "SELECT media_type, event_count, body FROM journal"
        ).fetchall()
    events = json.loads(unpack_body(kept))
    assert (media_type, count) == (JSON, 2)
    assert [each["type"] for each in events] == ["stream-start", "stream-end"]
    assert secret not in json.dumps(events)

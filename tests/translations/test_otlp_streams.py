"""The facts of a call: who pays, what was asked of whom, how it ended; the same however they are sent."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.events.wire.decode import decode_json
from metering.streams.ingest.fold import fold_wire
from metering.streams.stream import StreamFacts
from metering.translations.otlp.rules import Rules
from metering.translations.otlp.translate import MAX_CALLS, Payer, TooManyCallsError
from metering.translations.translated import Translated
from tests.builders.otlp import (
    CALL,
    ENDED,
    INTERNAL,
    PARENT,
    SPAN,
    STARTED,
    TRACE,
    data_of,
    log,
    span,
    translated,
    translated_logs,
    without,
)

ANSWER = "chatcmpl-9J3uIL87gldCFtiIbyaOvTeYBRA3l"
ANSWERED = {**CALL, "gen_ai.response.id": ANSWER}


def facts_of(*requests: Translated) -> dict[tuple[str, str], StreamFacts]:
    """The streams of requests, joined."""
    events = [each.event for one in requests for each in one.events]
    decoded = decode_json(json.dumps(events).encode())
    assert decoded.rejections == ()
    return fold_wire(decoded.events, received_at=None)


def conflicts(*requests: Translated) -> list[bool]:
    """Of the streams of requests: whether each contradicts itself."""
    return [facts.conflicting for facts in facts_of(*requests).values()]


def test_a_span_is_a_start_and_an_end_at_its_own_times() -> None:
    attributes = {
        **ANSWERED,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "claude-opus-4.7-20261101",
        "gen_ai.response.finish_reasons": ["stop"],
        "openai.request.service_tier": "auto",
        "openai.response.service_tier": "priority",
    }
    made = translated(span(attributes), resource={"service.name": "gateway-eu"})
    start, end = made.events
    assert (start.event["time"], end.event["time"]) == (
        "2026-11-23T15:00:00+00:00",
        "2026-11-23T15:00:04.500000+00:00",
    )
    assert {each.event["source"] for each in made.events} == {"/otlp/gateway-eu"}
    assert {each.event["subject"] for each in made.events} == {"acme"}
    started, ended = data_of(made)
    stream_id = started.pop("stream_id")
    assert stream_id == ended.pop("stream_id")
    assert (start.event["id"], end.event["id"]) == (f"{stream_id}:start", f"{stream_id}:end")
    assert started.pop("request_hash").startswith("otlp:")
    assert started == {
        "provider": "anthropic",
        "model": "claude-opus-4.7",
        "streaming": True,
        "operation": "chat",
        "max_output_tokens": 100,
        "service_tier": "auto",
        "inlet": "otlp",
    }
    assert ended == {
        "outcome": "completed",
        "usage": {"input_tokens": 812, "output_tokens": 37},
        "usage_source": "provider",
        "finish_reasons": ["stop"],
        "response_model": "claude-opus-4.7-20261101",
        "response_id": ANSWER,
        "service_tier": "priority",
        "inlet": "otlp",
    }


def test_no_text_of_a_prompt_or_an_answer_is_in_an_event() -> None:
    secret = "the merger is on Friday"
    attributes = {**CALL, "gen_ai.input.messages": secret, "input.value": secret, "llm.output_messages.0": secret}
    made = translated(span(attributes, events=[("gen_ai.choice", {"content": secret})], name=secret))
    assert secret not in repr(made)


OUTCOMES: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "well": ({}, "completed", None),
    "an error's type": ({"attributes": {**CALL, "error.type": "RateLimitError"}}, "failed", "RateLimitError"),
    "a status": ({"status": (2, "")}, "failed", "_OTHER"),
    "a status that names an exception": (
        {"status": (2, "openai.NotFoundError: Error code: 404")},
        "failed",
        "openai.NotFoundError",
    ),
    "an exception": (
        {"status": (2, "no"), "events": [("exception", {"exception.type": "openai.APIError"})]},
        "failed",
        "openai.APIError",
    ),
    "an exception that was handled": (
        {"status": (1, ""), "events": [("exception", {"exception.type": "openai.APIError"})]},
        "completed",
        None,
    ),
    "a task was cancelled": (
        {"attributes": {**CALL, "error.type": "asyncio.exceptions.CancelledError"}},
        "cancelled",
        "asyncio.exceptions.CancelledError",
    ),
    "a fetch was aborted": ({"attributes": {**CALL, "error.type": "AbortError"}}, "cancelled", "AbortError"),
    "a generator was closed": ({"status": (2, "GeneratorExit")}, "cancelled", "GeneratorExit"),
    "time ran out": ({"attributes": {**CALL, "error.type": "APITimeoutError"}}, "timed_out", "APITimeoutError"),
    "a deadline": ({"attributes": {**CALL, "error.type": "DEADLINE_EXCEEDED"}}, "timed_out", "DEADLINE_EXCEEDED"),
}


@pytest.mark.parametrize(("fields", "outcome", "error"), OUTCOMES.values(), ids=OUTCOMES)
def test_how_a_call_ended_is_what_its_span_says(fields: dict[str, Any], outcome: str, error: str | None) -> None:
    _, end = data_of(translated(span(**fields)))
    assert (end["outcome"], end.get("error_type")) == (outcome, error)


def customer_of(made: Translated) -> str:
    return str(made.events[0].event["subject"])


def test_the_customer_is_the_first_attribute_of_the_rule_that_is_set() -> None:
    names = ("metering.customer_id", "user.id", "enduser.id")
    known = {name: name for name in names}
    bare = without("metering.customer_id")
    assert customer_of(translated(span({**bare, **known}))) == "metering.customer_id"
    assert customer_of(translated(span({**bare, "user.id": "u", "enduser.id": "e"}))) == "e"
    assert (
        customer_of(translated(span({**bare, "user.id": " ", "enduser.id": ""}), resource={"user.id": "r"})) == "r"
    )
    assert customer_of(translated(span({**bare, "user.id": 7}))) == "7"
    rules = Rules(customer=("tenant.id",))
    assert customer_of(translated(span({**CALL, "tenant.id": "t"}), rules=rules)) == "t"
    assert customer_of(translated(span({**bare, "user.id": "u"}), resource={"enduser.id": "r"})) == "u"


def test_a_key_that_is_bound_decides_the_customer_and_the_source() -> None:
    made = translated(span(), payer=Payer(customer_id="umbrella", source="/gateways/eu"))
    assert {(each.event["subject"], each.event["source"]) for each in made.events} == {
        ("umbrella", "/gateways/eu")
    }


def test_api_keys_and_tags_come_from_attributes_that_are_set() -> None:
    rules = Rules(api_key_id=("key.id",), tags=("team", "deployment.environment.name"))
    attributes = {**CALL, "key.id": "k7", "team": "red"}
    start, _ = data_of(translated(span(attributes), rules=rules, resource={"deployment.environment.name": "prod"}))
    assert (start["api_key_id"], start["tags"]) == ("k7", {"team": "red", "deployment.environment.name": "prod"})


@pytest.mark.parametrize(
    ("attributes", "provider"),
    [
        ({"gen_ai.provider.name": "aws.bedrock"}, "aws"),
        ({"gen_ai.system": "az.ai.openai"}, "azure"),
        ({"gen_ai.system": "OpenAI"}, "openai"),
        ({"llm.provider": "mistralai", "llm.system": "openai"}, "mistral"),
        ({"llm.system": "vertexai"}, "google"),
        ({"gen_ai.provider.name": "my.own"}, "my.own"),
        ({}, "unknown"),
    ],
)
def test_providers_have_the_names_of_the_catalogue(attributes: dict[str, str], provider: str) -> None:
    start, _ = data_of(translated(span({**without("gen_ai.provider.name"), **attributes})))
    assert start["provider"] == provider


def test_of_openinference_the_parameters_are_read_and_never_believed_blindly() -> None:
    base = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-4o",
        "llm.system": "openai",
        "user.id": "acme",
    }
    good = '{"stream": true, "max_completion_tokens": 50, "service_tier": "flex"}'
    start, _ = data_of(translated(span({**base, "llm.invocation_parameters": good}, kind=INTERNAL)))
    assert (start["streaming"], start["max_output_tokens"], start["service_tier"]) == (True, 50, "flex")
    for odd in (
        "[]",
        "{",
        '{"stream": "x", "max_tokens": -1, "service_tier": 7}',
        '{"max_tokens": true}',
        "[" * 9999,
    ):
        start, _ = data_of(translated(span({**base, "llm.invocation_parameters": odd}, kind=INTERNAL)))
        assert (start["streaming"], start.get("max_output_tokens"), start.get("service_tier")) == (
            False,
            None,
            None,
        )


def test_long_texts_are_cut_so_that_no_event_is_rejected() -> None:
    long = "\0 𝕏" * 5000
    attributes = {
        **CALL,
        "gen_ai.request.model": long,
        "gen_ai.provider.name": long,
        "gen_ai.response.model": long,
        "gen_ai.response.id": long,
        "gen_ai.response.finish_reasons": [long, "\0", *[long] * 200],
        "openai.request.service_tier": long,
        "openai.response.service_tier": long,
        "error.type": long,
        "team": long,
        "metering.api_key_id": long,
    }
    rules = Rules(tags=("team",))
    made = translated(span(attributes), rules=rules, resource={"service.name": long})
    decoded = decode_json(json.dumps([each.event for each in made.events]).encode())
    assert (len(decoded.events), list(decoded.rejections), list(decoded.warnings)) == (2, [], [])


def test_a_customers_id_is_not_changed_so_that_no_other_customer_pays() -> None:
    (start, _) = translated(span({**CALL, "metering.customer_id": "a\0b"})).events
    assert start.event["subject"] == "a\0b"


def test_a_span_that_is_sent_again_changes_nothing() -> None:
    assert translated(span()) == translated(span())
    assert conflicts(translated(span()), translated(span())) == [False]


@given(st.data())
def test_calls_give_the_same_facts_in_any_requests_any_order_and_any_number(data: st.DataObject) -> None:
    calls = [
        span({**CALL, "gen_ai.usage.output_tokens": number}, span_id=f"{number:016x}", parent_span_id=PARENT)
        for number in range(1, data.draw(st.integers(1, 6)) + 1)
    ]
    sent = data.draw(st.permutations(calls)) + data.draw(st.lists(st.sampled_from(calls), max_size=4))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=4)) | {0, len(sent)})
    apart = [translated(*sent[begin:end]) for begin, end in pairwise(cuts)]
    assert facts_of(*apart) == facts_of(translated(*calls))


def test_a_span_and_the_event_of_the_same_call_are_one_stream_in_any_order() -> None:
    of_span = translated(span(parent_span_id=PARENT))
    of_event = translated_logs(log())
    assert conflicts(of_span, of_event) == conflicts(of_event, of_span) == [False]
    start, end = of_event.events
    assert start.event["time"] == end.event["time"] == "2026-11-23T15:00:04.500000+00:00"


def test_two_spans_of_one_answer_in_one_trace_are_one_stream_even_in_two_requests() -> None:
    outer = translated(span(ANSWERED, span_id=PARENT, kind=INTERNAL))
    inner = translated(span(ANSWERED, parent_span_id=PARENT))
    assert conflicts(outer, inner) == [False]
    # If they disagree, a person is asked, and nothing is billed twice.
    other = translated(span({**ANSWERED, "gen_ai.usage.output_tokens": 38}, span_id=PARENT))
    assert conflicts(other, inner) == conflicts(inner, other) == [True]


def test_answers_of_other_traces_and_ids_that_are_too_short_to_be_unique_are_streams_of_their_own() -> None:
    other_trace = translated(span(ANSWERED, trace_id="a" * 32))
    assert conflicts(translated(span(ANSWERED)), other_trace) == [False, False]
    short = {**CALL, "gen_ai.response.id": "chatcmpl-123"}
    assert conflicts(translated(span(short)), translated(span(short, span_id=PARENT))) == [False, False]


def test_a_log_record_without_a_trace_is_told_apart_by_its_answer() -> None:
    start, _ = data_of(translated_logs(log(ANSWERED, trace_id="", span_id="")))
    assert start["stream_id"].startswith("answer-")
    assert "request_hash" not in start
    assert translated_logs(log(trace_id="", span_id="")).left_out[0].detail.startswith("the ids of the trace")


def test_attempts_of_one_trace_have_one_request_hash_and_other_models_and_traces_another() -> None:
    def request_hash(**fields: Any) -> str:
        return str(data_of(translated(span(**fields)))[0]["request_hash"])

    same = request_hash()
    assert same == request_hash(span_id=PARENT, status=(2, "no"), parent_span_id="b" * 16)
    assert same != request_hash(trace_id="a" * 32)
    assert same != request_hash(attributes={**CALL, "gen_ai.request.model": "claude-haiku-4.5"})


def test_times_are_cut_to_microseconds_and_an_end_before_its_start_begins_there() -> None:
    made = translated(span(start_time_unix_nano=STARTED + 1999, end_time_unix_nano=STARTED + 999))
    assert [each.event["time"] for each in made.events] == ["2026-11-23T15:00:00+00:00"] * 2
    latest = translated(span(end_time_unix_nano=2**64 - 1))
    assert latest.events[1].event["time"] == "2554-07-21T23:34:33.709551+00:00"
    only_end = translated(span(start_time_unix_nano=0, end_time_unix_nano=ENDED))
    assert len({each.event["time"] for each in only_end.events}) == 1


def test_a_request_of_too_many_calls_is_refused_with_the_settings_that_help() -> None:
    spans = [span(span_id=f"{number:016x}") for number in range(1, MAX_CALLS + 2)]
    assert len(translated(*spans[:-1]).events) == 2 * MAX_CALLS
    with pytest.raises(TooManyCallsError, match=r"5,001 calls .* send_batch_max_size"):
        translated(*spans)


def test_a_stream_names_its_trace() -> None:
    assert data_of(translated(span()))[0]["stream_id"] == f"{TRACE}-{SPAN}"
    assert data_of(translated(span(ANSWERED)))[0]["stream_id"].startswith(f"{TRACE}-")

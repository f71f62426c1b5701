"""Which spans and log records are billed: calls to models, each once, and never the sums above them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.translations.otlp.families import innermost
from metering.translations.otlp.records import SpanId
from metering.translations.otlp.rules import Rules
from tests.builders.otlp import (
    CALL,
    CLIENT,
    INTERNAL,
    PARENT,
    SERVER,
    SPAN,
    billed,
    log,
    span,
    translated,
    translated_logs,
    without,
)

A, B, C, D = (f"{letter * 16}" for letter in "abcd")
BARE = without("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
ERROR = {"status": (2, "RateLimitError: 429")}


def child(span_id: str, parent_id: str, attributes: Any = CALL, **fields: Any) -> dict[str, Any]:
    return span(attributes, span_id=span_id, parent_span_id=parent_id, **fields)


OPENINFERENCE = {
    "user.id": "acme",
    "llm.system": "openai",
    "llm.model_name": "gpt-4o",
    "llm.token_count.prompt": 7,
    "llm.token_count.completion": 9,
}
OLD = {
    "user.id": "acme",
    "gen_ai.system": "OpenAI",
    "gen_ai.request.model": "gpt-4o",
    "llm.usage.prompt_tokens": 7,
}
CALLS: dict[str, dict[str, Any]] = {
    "chat": CALL,
    "text completion": {**CALL, "gen_ai.operation.name": "text_completion"},
    "generate content": {**CALL, "gen_ai.operation.name": "generate_content"},
    "embeddings": {**CALL, "gen_ai.operation.name": "embeddings"},
    "OpenInference": {**OPENINFERENCE, "openinference.span.kind": "LLM"},
    "OpenInference's embedding": {
        "user.id": "acme",
        "openinference.span.kind": "EMBEDDING",
        "embedding.model_name": "text-embedding-3-small",
        "llm.token_count.prompt": 7,
    },
    "OpenLLMetry": {**OLD, "llm.request.type": "chat"},
    "without an operation": OLD,
}
NO_CALLS: dict[str, dict[str, Any]] = {
    "an agent": {**CALL, "gen_ai.operation.name": "invoke_agent"},
    "a workflow": {**CALL, "gen_ai.operation.name": "invoke_workflow"},
    "a tool": {**CALL, "gen_ai.operation.name": "execute_tool"},
    "a search": {**CALL, "gen_ai.operation.name": "retrieval"},
    "OpenInference's chain": {**OPENINFERENCE, "openinference.span.kind": "CHAIN"},
    "OpenInference's agent": {**OPENINFERENCE, "openinference.span.kind": "AGENT"},
    "OpenLLMetry's workflow": {**CALL, "traceloop.span.kind": "workflow"},
    "an agent's sum without an operation": {**OLD, "gen_ai.agent.name": "tutor"},
    "an answer from LiteLLM's cache": {**CALL, "litellm.cache_hit": True},
    "a request of a server": {"http.request.method": "POST", "user.id": "acme"},
    "nothing": {},
}


@pytest.mark.parametrize("attributes", CALLS.values(), ids=CALLS)
def test_calls_to_models_are_billed(attributes: dict[str, Any]) -> None:
    given = translated(span(attributes))
    assert (billed(given), given.left_out) == ([SPAN], [])


@pytest.mark.parametrize("attributes", NO_CALLS.values(), ids=NO_CALLS)
def test_all_else_is_passed_over(attributes: dict[str, Any]) -> None:
    given = translated(span(attributes, kind=INTERNAL))
    assert (given.events, given.left_out) == ([], [])


LEFT_OUT: dict[str, tuple[dict[str, Any], str]] = {
    "no customer": (
        span(without("metering.customer_id")),
        "no customer: none of metering.customer_id, enduser.id",
    ),
    "a long customer": (span({**CALL, "metering.customer_id": "x" * 129}), "the customer's id has more than 128"),
    "no model": (span(without("gen_ai.request.model")), "gen_ai.request.model: missing"),
    "an odd operation": (
        span({**CALL, "gen_ai.operation.name": "dream"}),
        "gen_ai.operation.name: 'dream' is not",
    ),
    "a server's span": (
        span(kind=SERVER),
        "kind: spans of the kind server are not billed unless METERING_OTLP_SPAN",
    ),
    "no span id": (span(span_id=""), "the ids of the trace and of the span are missing"),
    "a trace id of zeros": (span(trace_id="0" * 32), "the ids of the trace and of the span are missing"),
    "no time": (span(start_time_unix_nano=0, end_time_unix_nano=0), "the time is missing"),
}


@pytest.mark.parametrize(("sent", "reason"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_call_that_cannot_be_billed_is_left_out_with_the_reason(sent: dict[str, Any], reason: str) -> None:
    given = translated(span(span_id=A), sent)
    assert billed(given) == [A]
    (left,) = given.left_out
    assert left.detail.startswith(reason)
    assert left.record == 1


@pytest.mark.parametrize("lacking", ["gen_ai.request.model", "gen_ai.operation.name"])
def test_what_failed_before_it_had_a_model_is_passed_over_because_it_would_cost_nothing(lacking: str) -> None:
    attributes = {name: value for name, value in BARE.items() if name != lacking}
    given = translated(span({**attributes, "error.type": "NotFoundError"}))
    assert (given.events, given.left_out) == ([], [])


def test_only_the_event_of_a_whole_call_is_billed() -> None:
    events = ["gen_ai.choice", "gen_ai.user.message", "gen_ai.evaluation.result", "", "x"]
    given = translated_logs(*(log(event_name=name) for name in events), log(span_id=A))
    assert (billed(given), given.left_out) == ([A], [])


def test_an_event_may_say_its_name_in_an_attribute() -> None:
    sent = log({**CALL, "event.name": "gen_ai.client.inference.operation.details"}, event_name="")
    assert billed(translated_logs(sent)) == [SPAN]


def test_scopes_and_kinds_are_set_by_the_deployment() -> None:
    sent = [span(span_id=A, scope="x.openai"), span(span_id=B, scope="x.langchain"), span(span_id=C, kind=SERVER)]
    assert billed(translated(*sent, rules=Rules(scopes=("*openai",)))) == [A]
    assert billed(translated(*sent, rules=Rules(scopes=("-x.langchain",)))) == [A]
    assert billed(translated(*sent, rules=Rules(kinds=("server",)))) == [C]
    assert billed(translated(*sent, rules=Rules(kinds=("client", "server")))) == [A, B, C]


def test_a_span_of_no_kind_is_an_internal_one() -> None:
    assert billed(translated(span(kind=0))) == [SPAN]
    assert billed(translated(span(kind=0), rules=Rules(kinds=("client",)))) == []


# Spans of one request, and those of them that are billed.
FAMILIES: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "of two instrumentations the inner one": ([child(A, PARENT), child(B, A)], [B]),
    "whichever comes first": ([child(B, A), child(A, PARENT)], [B]),
    "also with spans between them": ([child(A, PARENT), child(C, A, {}), child(B, C)], [B]),
    "siblings both": ([child(A, PARENT), child(B, PARENT)], [A, B]),
    "what an agent calls, and not the sum": (
        [child(PARENT, D, {**CALL, "gen_ai.operation.name": "invoke_agent"}), child(A, PARENT), child(B, PARENT)],
        [A, B],
    ),
    "the outer one if the inner one has no usage": ([child(A, PARENT), child(B, A, BARE)], [A]),
    "the inner one if neither has a usage": ([child(A, PARENT, BARE), child(B, A, BARE)], [B]),
    "failed attempts below the one that knows the usage": (
        [child(A, PARENT), child(B, A, BARE, **ERROR), child(C, A, BARE, **ERROR), child(D, A, BARE)],
        [A, B, C],
    ),
    "attempts, the last with usage": ([child(A, PARENT), child(B, A, BARE, **ERROR), child(C, A)], [B, C]),
    "of each trace its own": ([child(A, PARENT), child(B, A, trace_id="a" * 32)], [A, B]),
    "a span that is its own parent": ([child(A, A)], [A]),
}


@pytest.mark.parametrize(("sent", "expected"), FAMILIES.values(), ids=FAMILIES)
def test_of_a_family_of_spans_each_call_is_billed_once(sent: list[dict[str, Any]], expected: list[str]) -> None:
    given = translated(*sent)
    assert (sorted(billed(given)), given.left_out) == (expected, [])


def test_a_servers_span_above_a_clients_is_passed_over_in_silence() -> None:
    sent = [child(A, PARENT, kind=SERVER), child(B, A, kind=CLIENT)]
    given = translated(*sent)
    assert (billed(given), given.left_out) == ([B], [])
    # Each alone, in whatever order: the client's span is billed, the server's is not.
    assert [billed(translated(each)) for each in sent] == [[], [B]]


_ids = st.integers(0, 11).map(lambda number: SpanId("t", str(number)))


@given(st.dictionaries(_ids, st.booleans()), st.frozensets(_ids), st.dictionaries(_ids, _ids))
def test_of_any_family_no_two_calls_with_a_usage_are_billed_along_one_line(
    calls: dict[SpanId, bool], failed: frozenset[SpanId], parents: dict[SpanId, SpanId]
) -> None:
    found = innermost(calls=calls, failed=failed, parents=parents)
    assert found <= calls.keys()
    lines = {each: _line(each, parents) for each in calls}
    with_usage = {each for each, has_usage in calls.items() if has_usage}
    for each in found & with_usage:
        assert not (lines[each] & found & with_usage)
    for each in with_usage - found:
        # What is not billed has one below it that describes the same.
        assert any(each in lines[other] for other in with_usage)
    for each in (found - with_usage) - failed:
        assert not (lines[each] & found & with_usage)


def _line(span_id: SpanId, parents: dict[SpanId, SpanId]) -> set[SpanId]:
    """All that is above a span."""
    line: set[SpanId] = set()
    at = parents.get(span_id)
    while at is not None and at not in line:
        line.add(at)
        at = parents.get(at)
    return line

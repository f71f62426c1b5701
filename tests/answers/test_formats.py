"""Documents of the Responses and the Messages format: all text once, finish reasons, errors, whatever is odd."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.answers.formats import CHAT, MESSAGES, RESPONSES, format_of
from metering.answers.inputs import count_input
from metering.answers.tokens import LengthCounter, counter_for
from metering.answers.words import error_code
from metering.emitter.identity import StreamIdentity
from metering.emitter.meter import StreamMeter
from metering.events.events import Outcome, StreamEnd, UsageEvent


def texts(*documents: dict[str, Any]) -> str:
    """All output, reasoning in brackets."""
    pieces = [piece for document in documents for piece in format_of(document).deltas(document)]
    return "".join(f"[{piece.text}]" if piece.lane[0] else piece.text for piece in pieces)


def response(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 1, "output_index": 0, **more}


def block(delta: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (response("output_text.delta", delta="a"), "a"),
        (response("refusal.delta", delta="no"), "no"),
        (response("function_call_arguments.delta", delta='{"q":'), '{"q":'),
        (response("custom_tool_call_input.delta", delta="x"), "x"),
        (response("mcp_call_arguments.delta", delta="x"), "x"),
        (response("code_interpreter_call_code.delta", delta="1+1"), "1+1"),
        (response("output_audio_transcript.delta", delta="hm"), "hm"),
        (response("reasoning_text.delta", delta="so"), "[so]"),
        (response("reasoning_summary_text.delta", delta="so"), "[so]"),
        (response("output_item.added", item={"type": "function_call", "name": "search"}), "search"),
        (response("output_item.added", item={"type": "message", "role": "assistant"}), ""),
        # What repeats, and what is no text.
        (response("output_text.done", text="all of it"), ""),
        (response("function_call_arguments.done", arguments="{}"), ""),
        (response("audio.delta", delta="QUJD"), ""),
        (response("image_generation_call.partial_image", partial_image_b64="QUJD"), ""),
        (response("output_text.delta", delta=None), ""),
        (response("output_text.delta", delta={"text": "a"}), ""),
        (response("output_item.added", item=None), ""),
        (response("output_item.added", item={"name": 7}), ""),
        # Messages
        (block({"type": "text_delta", "text": "a"}), "a"),
        (block({"type": "input_json_delta", "partial_json": '{"q'}), '{"q'),
        (block({"type": "thinking_delta", "thinking": "so"}), "[so]"),
        (block({"type": "signature_delta", "signature": "abc"}), ""),
        (block({"type": "citations_delta", "citation": {"cited_text": "a"}}), ""),
        (block({"type": "text_delta", "text": None}), ""),
        ({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, ""),
        ({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "f"}}, "f"),
        ({"type": "content_block_start", "index": 0, "content_block": None}, ""),
        ({"type": "content_block_delta", "index": 0, "delta": None}, ""),
        ({"type": "ping"}, ""),
    ],
    ids=lambda value: str(value.get("type")) if isinstance(value, dict) else None,
)
def test_the_text_of_an_event_counts_once(document: dict[str, Any], text: str) -> None:
    assert format_of(document) in (RESPONSES, MESSAGES)
    assert texts(document) == text


def test_a_whole_response_has_the_texts_of_all_its_items() -> None:
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]},
        {
            "type": "message",
            "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"}],
        },
        {"type": "function_call", "name": "f", "arguments": "{}"},
        {"type": "message", "content": None},
        "no item",
    ]
    whole = {"object": "response", "id": "resp_1", "status": "completed", "output": output}
    pieces = RESPONSES.texts(whole)
    assert [(piece.lane[0], piece.text) for piece in pieces] == [
        (True, "so"),
        (False, "a"),
        (False, "b"),
        (False, "f"),
        (False, "{}"),
    ]
    assert RESPONSES.texts({"type": "response.completed", "response": whole}) == pieces


def test_a_whole_message_has_the_texts_of_all_its_blocks() -> None:
    content = [
        {"type": "thinking", "thinking": "so", "signature": "abc"},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"q": 1}},
        7,
    ]
    whole = {"type": "message", "id": "msg_1", "content": content, "stop_reason": "tool_use"}
    assert [piece.text for piece in MESSAGES.texts(whole)] == ["so", "a", "f", '{"q":1}']


@pytest.mark.parametrize(
    ("document", "reasons"),
    [
        ({"type": "response.created", "response": {"status": "in_progress"}}, {0: None}),
        ({"type": "response.completed", "response": {"status": "completed"}}, {0: "completed"}),
        (
            {
                "type": "response.incomplete",
                "response": {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            },
            {0: "max_output_tokens"},
        ),
        ({"type": "response.incomplete", "response": {"status": "incomplete"}}, {0: "incomplete"}),
        ({"type": "response.failed", "response": {"status": "failed"}}, {0: None}),
        ({"object": "response", "status": "completed"}, {0: "completed"}),
        ({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}, {0: "max_tokens"}),
        ({"type": "message_delta", "delta": {"stop_reason": None}}, {0: None}),
        ({"type": "message_delta", "delta": None}, {0: None}),
        ({"type": "message", "content": [], "stop_reason": "end_turn"}, {0: "end_turn"}),
        ({"type": "message_stop"}, {0: None}),
    ],
)
def test_finish_reasons_are_read(document: dict[str, Any], reasons: dict[int, str | None]) -> None:
    assert format_of(document).reasons(document) == reasons


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, "overloaded_error"),
        ({"type": "error", "code": "server_error", "message": "x"}, "server_error"),
        ({"type": "error"}, "upstream_error"),
        (
            {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded"}}},
            "rate_limit_exceeded",
        ),
        ({"type": "response.completed", "response": {"error": None}}, None),
        ({"object": "response", "error": None}, None),
        ({"type": "message_stop"}, None),
    ],
)
def test_errors_of_each_format_have_a_code(document: dict[str, Any], code: str | None) -> None:
    assert error_code(document) == code


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"choices": []},
        {"object": "list"},
        {"type": "object", "properties": {}},
        {"type": 7},
        {"type": "message"},
    ],
)
def test_anything_else_is_read_as_chat(document: dict[str, Any]) -> None:
    assert format_of(document) is CHAT


_NAMES = ["type", "delta", "text", "content", "usage", "output", "response", "message", "status", "index", "item",
          "content_block", "name", "error", "stop_reason", "choices"]  # fmt: skip
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_NAMES),
            inner | st.sampled_from(["response.completed", "message_delta", "content_block_delta", "message"]),
            max_size=6,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(_values.filter(lambda value: isinstance(value, dict)), max_size=4))
def test_no_document_makes_the_meter_raise(documents: list[dict[str, Any]]) -> None:
    events: list[UsageEvent] = []
    identity = StreamIdentity(
        customer_id="acme", stream_id="s", provider="openai", model="gpt-4o", streaming=True,
        input_tokens=3, input_exact=True, tags={},
    )  # fmt: skip
    meter = StreamMeter(identity=identity, counter=LengthCounter(), emit=events.append)
    for document in documents:
        meter.take(document)
    meter.end(outcome=Outcome.COMPLETED)
    [end] = [event for event in events if isinstance(event, StreamEnd)]
    assert end.usage is not None
    assert (end.usage.output_tokens or 0) >= 0


@pytest.mark.parametrize(
    ("request_", "exact"),
    [
        ({"input": "Say hello."}, True),
        ({"input": [{"role": "user", "content": "Say hello."}]}, True),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}]}, True),
        ({"input": ["Say hello."]}, True),
        ({"prompt": ["Say hello."]}, True),
        ({"instructions": "Say hello.", "input": ""}, True),
        ({"system": [{"type": "text", "text": "Say hello."}]}, True),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x" * 999}]}]}, False),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "Say hello."}]}, False),
    ],
)
def test_the_input_of_each_format_is_counted(request_: dict[str, Any], exact: bool) -> None:
    counted = count_input(request=request_, counter=counter_for(model="gpt-4o"))
    assert counted.exact is exact
    assert counted.tokens <= 4
    if exact:
        assert counted.tokens >= 3


@given(
    st.dictionaries(st.sampled_from(["messages", "input", "prompt", "system", "tools", "instructions"]), _values)
)
def test_no_request_makes_counting_raise(request_: dict[str, Any]) -> None:
    assert count_input(request=request_, counter=LengthCounter()).tokens >= 0


def test_without_a_vocabulary_tokens_are_estimated_by_length() -> None:
    counter = LengthCounter()
    assert [counter.count(text) for text in ("", "abc", "abcd", "abcde", "Überall", "\ud83d")] == [
        0,
        1,
        1,
        2,
        2,
        1,
    ]

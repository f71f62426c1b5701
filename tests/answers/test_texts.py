"""Text is found in every place where upstreams put it, once, and nothing else is taken for text."""

from typing import Any

import pytest

from metering.answers.json_reading import decode_object, read_documents, repaired
from metering.answers.texts import finish_reasons, message_pieces, plain_piece, text_pieces


def _texts(delta: dict[str, Any]) -> list[tuple[bool, str]]:
    pieces = text_pieces({"choices": [{"index": 0, "delta": delta}]})
    return [(piece.lane[0], piece.text) for piece in pieces]


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"content": "a"}, [(False, "a")]),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, [(False, "ab")]),
        ({"content": [{"type": "thinking", "thinking": [{"text": "a"}]}, {"type": "text", "text": "b"}]},
         [(False, "b"), (True, "a")]),
        ({"content": {"type": "text", "text": "a"}}, [(False, "a")]),
        ({"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}, []),
        ({"reasoning": "a", "reasoning_content": "a"}, [(True, "a")]),
        ({"reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a", "signature": "s"}]},
         [(True, "a")]),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "AAAA"}]}, []),
        ({"thinking": {"content": "a"}}, [(True, "a")]),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "a", "signature": "zzz"}]}, [(True, "a")]),
        ({"thought": "a"}, [(True, "a")]),
        ({"reasoning_text": "a", "reasoning_id": "r_1", "reasoning_opaque_data": "x"}, [(True, "a")]),
        ({"thought_signature": "zzz", "thinking_type": "deep"}, []),
        ({"refusal": "a"}, [(False, "a")]),
        ({"audio": {"id": "x", "data": "AAAA", "transcript": "a"}}, [(False, "a")]),
        ({"audio": {"id": "x", "data": "AAAA"}}, []),
        ({"images": [{"image_url": {"url": "data:image/png;base64,AAAA"}}]}, []),
        ({"role": "assistant", "annotations": [{"url": "https://example.org"}], "vendor": "x"}, []),
        ({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, [(False, "f"), (False, "{}")]),
        ({"tool_calls": [{"index": None, "custom": {"name": "f", "input": "a"}}]}, [(False, "f"), (False, "a")]),
        ({"tool_calls": {"function": {"arguments": "a"}}}, [(False, "a")]),
        ({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}, 7]},
         [(False, "f"), (False, '{"a":1}')]),
        ({"function_call": {"name": "f", "arguments": "a"}}, [(False, "f"), (False, "a")]),
        ({"content": 7, "tool_calls": "x", "audio": "x", "reasoning": 7}, []),
    ],
)  # fmt: skip
def test_the_text_of_a_delta(delta: dict[str, Any], expected: list[tuple[bool, str]]) -> None:
    assert _texts(delta) == expected


@pytest.mark.parametrize("index", [None, True, "0", 1.5])
def test_a_choice_without_a_usable_index_has_that_of_its_place(index: object) -> None:
    document = {"choices": [{"index": index, "delta": {"content": "a"}, "finish_reason": "stop"}]}
    assert [piece.choice for piece in text_pieces(document)] == [0]
    assert finish_reasons(document) == {0: "stop"}


@pytest.mark.parametrize("choices", [None, 7, {}, ["x"], [{"delta": None}], [{"delta": "x"}], [{"message": 7}]])
def test_choices_of_an_unknown_shape_have_no_text(choices: object) -> None:
    document: dict[str, Any] = {"choices": choices}
    assert text_pieces(document) == [] == message_pieces(document)
    assert plain_piece(document) is None


_PLAIN: dict[str, Any] = {"id": "x", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}


def test_a_plain_chunk_is_read_as_any_other_would_be() -> None:
    assert [plain_piece(_PLAIN)] == text_pieces(_PLAIN)


@pytest.mark.parametrize(
    "change",
    [
        {"usage": {}},
        {"error": {}},
        {"x_groq": {}},
        {"choices": [*_PLAIN["choices"], *_PLAIN["choices"]]},
        {"choices": [{**_PLAIN["choices"][0], "finish_reason": "stop"}]},
        {"choices": [{**_PLAIN["choices"][0], "usage": {}}]},
        {"choices": [{**_PLAIN["choices"][0], "index": None}]},
        {"choices": [{"index": 0, "delta": {"content": "a", "reasoning": "b"}}]},
        {"choices": [{"index": 0, "delta": {"content": ""}}]},
    ],
)
def test_a_chunk_with_anything_else_is_not_plain(change: dict[str, Any]) -> None:
    assert plain_piece({**_PLAIN, **change}) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a":NaN}', True),
        (b'{"a":-Infinity}', True),
        (b'{"a":"\\ud83c"}', True),
        (b'{"a":"\xff"}', True),
        (b'{"a":"\x01"}', True),
        (b'{"a":' + b"9" * 6_000 + b"}", True),
        (b'\xef\xbb\xbf{"a":1}', True),
        (b'{"a":1', False),
        (b"[1]", False),
        (b"{" * 50_000, False),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, False),
    ],
)
def test_what_can_be_read_as_an_object(data: bytes, expected: bool) -> None:
    assert (decode_object(data) is not None) is expected


def test_several_documents_in_one_body() -> None:
    assert read_documents(b'{"a":1}\n{"a":NaN}\n') is not None
    assert read_documents(b'[{"a":1},{"b":2}]') == [{"a": 1}, {"b": 2}]
    assert read_documents(b'{"a":1}\nnonsense') is None
    assert read_documents(b"[]") is None


def test_halves_of_a_character_are_joined() -> None:
    assert repaired("Look: \ud83c" + "\udf0a") == "Look: 🌊"
    assert repaired("Look: \ud83c") == "Look: �"

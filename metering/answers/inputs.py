"""The input tokens of a request, in each of the formats that the gateway serves."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from metering.answers.tokens import TokenCounter
from metering.answers.words import type_of

# OpenAI's chat format: three tokens around each message, and three before the answer.
_TOKENS_PER_MESSAGE = 3
_TOKENS_BEFORE_ANSWER = 3
# What is sent to the model as JSON.
_DESCRIPTIONS = ("tools", "functions", "response_format")
# Where messages, items and parts have their texts.
_TEXTS = ("role", "name", "content", "text", "refusal", "reasoning_content", "thinking", "arguments", "output")
_GROUPS = ("content", "parts", "summary", "output", "tool_calls", "function", "function_call", "input")
_CALLS = frozenset({"function", "function_call"})
_PLAIN_PARTS = frozenset({"text", "input_text", "output_text", "refusal", "thinking", "tool_use", "tool_result"})
_MAX_DEPTH = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class InputCount:
    """The input tokens of a request; not `exact` if it has parts that are not text."""

    tokens: int
    exact: bool


def count_input(*, request: Mapping[str, Any], counter: TokenCounter) -> InputCount:
    """The tokens of a request without images, audio and files: of its messages, its input, or its prompt."""
    tokens, exact = 0, True
    if "messages" in request:
        messages = request["messages"]
        count = len(messages) if isinstance(messages, list) else 0
        tokens += _TOKENS_BEFORE_ANSWER + _TOKENS_PER_MESSAGE * count
    for name in ("messages", "system", "instructions", "input", "prompt"):
        counted, plain = _count(request.get(name), counter, 0)
        tokens += counted
        exact = exact and plain
    for name in _DESCRIPTIONS:
        if request.get(name):
            tokens += counter.count(json.dumps(request[name], separators=(",", ":"), ensure_ascii=False))
    return InputCount(tokens=tokens, exact=exact)


def input_characters(request: Mapping[str, Any]) -> int | None:
    """The characters of a text to be spoken; None if the request has none."""
    given = request.get("input")
    return len(given) if isinstance(given, str) else None


def _count(value: object, counter: TokenCounter, depth: int) -> tuple[int, bool]:
    """The tokens of a value, and whether all of it is text. A number is a token that is encoded already."""
    if isinstance(value, str):
        return counter.count(value), True
    if isinstance(value, int) and not isinstance(value, bool):
        return 1, True
    if depth >= _MAX_DEPTH:
        return 0, False
    if isinstance(value, list):
        counts = [_count(item, counter, depth + 1) for item in value]
        return sum(tokens for tokens, _ in counts), all(plain for _, plain in counts)
    if isinstance(value, dict):
        return _count_object(value, counter, depth)
    return 0, True


def _count_object(value: dict[str, Any], counter: TokenCounter, depth: int) -> tuple[int, bool]:
    tokens = sum(counter.count(text) for text in _texts_of(value))
    plain = type_of(value) in _PLAIN_PARTS or "type" not in value or "role" in value
    for name in _GROUPS:
        inner = value.get(name)
        if isinstance(inner, list):
            counted, inner_plain = _count(inner, counter, depth + 1)
            tokens, plain = tokens + counted, plain and inner_plain
        elif isinstance(inner, dict) and name in _CALLS:
            tokens += sum(counter.count(text) for text in inner.values() if isinstance(text, str))
        elif isinstance(inner, dict):
            tokens += counter.count(json.dumps(inner, separators=(",", ":"), ensure_ascii=False))
    return tokens, plain


def _texts_of(value: Mapping[str, Any]) -> Iterator[str]:
    return (text for name in _TEXTS if isinstance(text := value.get(name), str))

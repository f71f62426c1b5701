"""What a completion, or a chunk of one, says: texts to count, usage, how it ended. Unknown shapes say nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from metering.events.usage import Usage

_MAX_COUNT = 9_007_199_254_740_991
_MAX_NAME = 256
_MAX_NOTE = 1_024
_REASONING_FIELDS = ("reasoning_content", "reasoning")
_TEXT_FIELDS = ("content", "refusal")


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Some output; pieces with the same lane continue each other. The lane starts with True for reasoning."""

    lane: tuple[object, ...]
    text: str


def decode_object(data: bytes) -> dict[str, Any] | None:
    """A JSON object; None for anything else."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text_pieces(document: dict[str, Any]) -> Iterator[TextPiece]:
    """All output text in a chunk's deltas, or in a whole completion's messages."""
    for position, choice in enumerate(_objects(document.get("choices"))):
        index = choice.get("index", position)
        body = choice.get("delta") or choice.get("message")
        if isinstance(body, dict) and isinstance(index, int):
            yield from _body_pieces(body, index)


def _body_pieces(body: dict[str, Any], index: int) -> Iterator[TextPiece]:
    for name in _TEXT_FIELDS:
        if isinstance(text := body.get(name), str) and text:
            yield TextPiece((False, index, name), text)
    # Some upstreams send the same reasoning under both names.
    reasoning = next((text for name in _REASONING_FIELDS if isinstance(text := body.get(name), str)), None)
    if reasoning:
        yield TextPiece((True, index, "reasoning"), reasoning)
    for position, call in enumerate(_objects(body.get("tool_calls"))):
        number = call.get("index", position)
        function = call.get("function")
        if isinstance(function, dict) and isinstance(number, int):
            yield from _function_pieces(function, index, number)
    if isinstance(legacy := body.get("function_call"), dict):
        yield from _function_pieces(legacy, index, -1)


def _function_pieces(function: dict[str, Any], index: int, number: int) -> Iterator[TextPiece]:
    for name in ("name", "arguments"):
        if isinstance(text := function.get(name), str) and text:
            yield TextPiece((False, index, number, name), text)


def finish_reasons(document: dict[str, Any]) -> dict[int, str]:
    """Why each choice ended, by its index; choices that have not ended are left out."""
    reasons: dict[int, str] = {}
    for position, choice in enumerate(_objects(document.get("choices"))):
        reason, index = clean(choice.get("finish_reason")), choice.get("index", position)
        if reason is not None and isinstance(index, int):
            reasons[index] = reason
    return reasons


def is_usage_only(document: dict[str, Any]) -> bool:
    """The extra chunk that `stream_options.include_usage` brings: usage, and no choices."""
    return document.get("choices") == [] and isinstance(document.get("usage"), dict)


def reported_usage(document: dict[str, Any]) -> Usage | None:
    """The upstream's usage in our words; None when there is none. OpenAI's totals include the details."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt = _object(usage.get("prompt_tokens_details"))
    completion = _object(usage.get("completion_tokens_details"))
    written = prompt.get("cache_write_tokens", prompt.get("cache_creation_tokens"))
    ours = Usage(
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        cache_read_input_tokens=_count(prompt.get("cached_tokens")),
        cache_write_input_tokens=_count(written),
        reasoning_output_tokens=_count(completion.get("reasoning_tokens")),
        input_audio_tokens=_count(prompt.get("audio_tokens")),
        output_audio_tokens=_count(completion.get("audio_tokens")),
    )
    return ours if ours.known() else None


def error_code(document: dict[str, Any]) -> str | None:
    """The short code of an error object; None when there is no error."""
    error = document.get("error")
    if not error:
        return None
    detail = _object(error)
    return clean(detail.get("code")) or clean(detail.get("type")) or "upstream_error"


def clean(value: object, *, name: bool = False) -> str | None:
    """Text as an event can carry it: bounded, without NUL and lone surrogates; None when nothing is left."""
    if not isinstance(value, str):
        return None
    limit = _MAX_NAME if name else _MAX_NOTE
    return value.replace("\0", "")[:limit].encode(errors="ignore").decode() or None


def _count(value: object) -> int | None:
    """A counter within the contract's bounds; the upstream's nonsense is unknown."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_COUNT else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

"""An upstream's answer: split into SSE events, and read for its texts, usage and finish reasons.

A shape that is not known is passed on and not counted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from metering.core.errors import MeteringError
from metering.events.usage import Usage

MAX_EVENT_BYTES = 8 << 20

# An event ends at an empty line; a line ends with CRLF, LF or CR.
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLargeError(MeteringError):
    """An event of the upstream is too large."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """`raw` has the received bytes, to be forwarded; `data` is None for comments and keep-alives."""

    raw: bytes
    data: bytes | None


class SseParser:
    """Splits a byte stream, which may break anywhere, into events."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that the chunk completes.

        Raises:
            EventTooLargeError: more than 8 MiB without the end of an event.
        """
        self._buffer += chunk
        events: list[SseEvent] = []
        start = 0
        # A trailing CR may be half of a CRLF: it counts only once the next byte is known.
        end = len(self._buffer) - (1 if self._buffer.endswith(b"\r") else 0)
        while match := _EVENT_END.search(self._buffer, max(start, self._searched), end):
            events.append(_event(bytes(self._buffer[start : match.end()])))
            start = self._searched = match.end()
        del self._buffer[:start]
        # Three bytes back, because the next chunk may complete an event end that has begun.
        self._searched = max(0, len(self._buffer) - 3)
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise EventTooLargeError(f"the upstream sent an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def finish(self) -> list[SseEvent]:
        """The last event, if the server left out the empty line after it."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        self._searched = 0
        return [_event(rest)] if rest else []


def _event(raw: bytes) -> SseEvent:
    lines = _LINE_END.split(raw.removeprefix(_BYTE_ORDER_MARK))
    data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    return SseEvent(raw, b"\n".join(data) if data else None)


_MAX_COUNT = 9_007_199_254_740_991
_MAX_NAME = 256
_MAX_NOTE = 1_024
_REASONING_FIELDS = ("reasoning_content", "reasoning")
_TEXT_FIELDS = ("content", "refusal")


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Some output. Pieces of one lane form one text; a lane starts with True for reasoning."""

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
    """All output text in the deltas of a chunk, or in the messages of a whole completion."""
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
    """The finish reason of each choice that has ended, by its index."""
    reasons: dict[int, str] = {}
    for position, choice in enumerate(_objects(document.get("choices"))):
        reason, index = clean(choice.get("finish_reason")), choice.get("index", position)
        if reason is not None and isinstance(index, int):
            reasons[index] = reason
    return reasons


def is_usage_only(document: dict[str, Any]) -> bool:
    """Whether this is the extra chunk of `stream_options.include_usage`: usage, and no choices."""
    return document.get("choices") == [] and isinstance(document.get("usage"), dict)


def reported_usage(document: dict[str, Any]) -> Usage | None:
    """The upstream's usage, or None. OpenAI's totals include the details, as ours do."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt = _object(usage.get("prompt_tokens_details"))
    completion = _object(usage.get("completion_tokens_details"))
    written = prompt.get("cache_write_tokens", prompt.get("cache_creation_tokens"))
    reported = Usage(
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        cache_read_input_tokens=_count(prompt.get("cached_tokens")),
        cache_write_input_tokens=_count(written),
        reasoning_output_tokens=_count(completion.get("reasoning_tokens")),
        input_audio_tokens=_count(prompt.get("audio_tokens")),
        output_audio_tokens=_count(completion.get("audio_tokens")),
    )
    return reported if reported.known() else None


def error_code(document: dict[str, Any]) -> str | None:
    """The short code of an error object; None without an error."""
    error = document.get("error")
    if not error:
        return None
    detail = _object(error)
    return clean(detail.get("code")) or clean(detail.get("type")) or "upstream_error"


def clean(value: object, *, name: bool = False) -> str | None:
    """Text for an event: bounded, without NUL and lone surrogates; None if nothing is left."""
    if not isinstance(value, str):
        return None
    limit = _MAX_NAME if name else _MAX_NOTE
    return value.replace("\0", "")[:limit].encode(errors="ignore").decode() or None


def _count(value: object) -> int | None:
    """A counter within the contract's bounds, else None."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_COUNT else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

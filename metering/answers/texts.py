"""All output text of an upstream's answer, in whatever field it stands, each piece once.

Streamed chunks have `delta`s, whole completions have `message`s. Text that is not known to be text (ids,
signatures, images, audio) is left out.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_TEXT_FIELDS = ("content", "refusal")
# Fields of a delta that hold reasoning: upstreams send the same text under several of these names.
_REASONING_NAME = re.compile(r"reason|think|thought", re.IGNORECASE)
_NO_TEXT_NAME = re.compile(r"signature|_id$|^id$|type|token|effort|encrypted|data$|budget", re.IGNORECASE)
# Parts of a content list, and entries of reasoning_details, say their text under one of these.
_PART_TEXTS = ("text", "content", "thinking", "reasoning", "summary", "refusal", "transcript", "input_text")
_MAX_DEPTH = 4
# The fields of a plain chunk.
_PLAIN_DOCUMENT = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint", "obfuscation"}
)
_PLAIN_CHOICE = frozenset({"index", "delta", "logprobs", "finish_reason"})
_PLAIN_DELTA = frozenset({"role", "content"})


class TextPiece(NamedTuple):
    """Some output. Pieces of one lane form one text; a lane starts with True for reasoning."""

    lane: tuple[bool, int, *tuple[object, ...]]
    text: str

    @property
    def choice(self) -> int:
        """The index of the choice."""
        return self.lane[1]


def plain_piece(document: dict[str, Any]) -> TextPiece | None:
    """The text of a chunk that has one delta of one choice, with content and nothing else; None for any other.

    Nearly all chunks are like this, and need no search through all the places where upstreams put things.
    """
    choices = document.get("choices")
    if not document.keys() <= _PLAIN_DOCUMENT or document.get("usage") is not None:
        return None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    choice: dict[str, Any] = choices[0]
    delta = choice.get("delta")
    if (
        not isinstance(delta, dict)
        or choice.get("finish_reason") is not None
        or not choice.keys() <= _PLAIN_CHOICE
    ):
        return None
    content, index = delta.get("content"), choice.get("index")
    if not isinstance(content, str) or not content or type(index) is not int or not delta.keys() <= _PLAIN_DELTA:
        return None
    return TextPiece((False, index, "content"), content)


def text_pieces(document: dict[str, Any]) -> list[TextPiece]:
    """All output text in the choices of a chunk, or of a whole completion."""
    pieces: list[TextPiece] = []
    choices = document.get("choices")
    for position, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, dict):
            index = index_of(choice, position)
            if isinstance(delta := choice.get("delta"), dict):
                pieces += _body_pieces(delta, index)
            if isinstance(text := choice.get("text"), str) and text:
                pieces.append(TextPiece((False, index, "text"), text))
    return pieces


def message_pieces(document: dict[str, Any]) -> list[TextPiece]:
    """All output text in the whole messages of a completion; some upstreams repeat it so after its deltas."""
    pieces: list[TextPiece] = []
    choices = document.get("choices")
    for position, choice in enumerate(choices if isinstance(choices, list) else ()):
        message = choice.get("message") if isinstance(choice, dict) else None
        if isinstance(message, dict):
            pieces += _body_pieces(message, index_of(choice, position))
        elif isinstance(message, str) and message:
            pieces.append(TextPiece((False, index_of(choice, position), "content"), message))
    return pieces


def index_of(item: dict[str, Any], position: int) -> int:
    """The index of a choice or tool call; its position where the index is missing or no number."""
    index = item.get("index")
    return position if index is None or isinstance(index, bool) or not isinstance(index, int) else index


def has_audio(document: dict[str, Any]) -> bool:
    """Whether a chunk or completion has audio, whose tokens cannot be counted here."""
    choices = document.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            body = choice.get("delta") or choice.get("message")
            if isinstance(body, dict) and body.get("audio"):
                return True
    return False


def _body_pieces(body: dict[str, Any], index: int) -> list[TextPiece]:
    pieces: list[TextPiece] = []
    reasoning = ""
    for name, value in body.items():
        # In nearly every chunk, the content is all there is.
        if value is None or value == "" or name == "role":
            continue
        if name in _TEXT_FIELDS:
            text, thought = _spoken(value)
            if text:
                pieces.append(TextPiece((False, index, name), text))
            reasoning = max(reasoning, thought, key=len)
        elif name == "tool_calls":
            pieces += _call_pieces(value, index)
        elif name == "function_call":
            pieces += _function_pieces(value, index, -1)
        elif name == "audio":
            transcript = value.get("transcript") if isinstance(value, dict) else None
            if isinstance(transcript, str) and transcript:
                pieces.append(TextPiece((False, index, name), transcript))
        elif _REASONING_NAME.search(name) and not _NO_TEXT_NAME.search(name):
            reasoning = max(reasoning, "".join(_texts(value)), key=len)
    if reasoning:
        pieces.append(TextPiece((True, index, "reasoning"), reasoning))
    return pieces


def _spoken(content: object) -> tuple[str, str]:
    """The text and the reasoning in a content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content, ""
    spoken: list[str] = []
    thought: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        is_thought = isinstance(part, dict) and bool(_REASONING_NAME.search(str(part.get("type", ""))))
        (thought if is_thought else spoken).extend(_texts(part))
    return "".join(spoken), "".join(thought)


def _texts(value: object, depth: int = 0) -> Iterator[str]:
    """The texts in a string, a part, or a list of parts."""
    if isinstance(value, str):
        yield value
    elif depth < _MAX_DEPTH and isinstance(value, list):
        for item in value:
            yield from _texts(item, depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, dict):
        for name in _PART_TEXTS:
            if value.get(name):
                yield from _texts(value[name], depth + 1)


def _call_pieces(calls: object, index: int) -> Iterator[TextPiece]:
    for position, call in enumerate(calls if isinstance(calls, list) else [calls]):
        if isinstance(call, dict):
            number = index_of(call, position)
            for kind in ("function", "custom"):
                yield from _function_pieces(call.get(kind), index, number)


def _function_pieces(function: object, index: int, number: int) -> Iterator[TextPiece]:
    if not isinstance(function, dict):
        return
    for name in ("name", "arguments", "input"):
        value = function.get(name)
        # Some upstreams send the arguments as an object, which the model wrote as its JSON.
        text = json.dumps(value, separators=(",", ":")) if isinstance(value, dict | list) else value
        if isinstance(text, str) and text:
            yield TextPiece((False, index, number, name), text)


def finish_reasons(document: dict[str, Any]) -> dict[int, str | None]:
    """The choices of a document by index: the finish reason of those that have ended, None of the others."""
    choices = document.get("choices")
    found: dict[int, str | None] = {}
    for position, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, dict):
            reason = choice.get("finish_reason")
            found[index_of(choice, position)] = reason if isinstance(reason, str) and reason else None
    return found

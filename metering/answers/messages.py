"""Anthropic's Messages format: its events, and the whole message that is the answer of an unstreamed request."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from metering.answers.texts import TextPiece
from metering.answers.words import type_of

_EVENTS = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
    }
)
# The fields in which deltas have their text; signatures and citations are no output of their own.
_TEXTS = ("text", "partial_json")
_THINKING = "thinking"


def is_message(document: Mapping[str, Any]) -> bool:
    """Whether a document is of this format."""
    type_ = type_of(document)
    return type_ in _EVENTS or (type_ == "message" and isinstance(document.get("content"), list))


def message_deltas(document: Mapping[str, Any]) -> list[TextPiece]:
    """The pieces of output in an event."""
    index = document.get("index")
    delta = document.get("delta")
    if document.get("type") == "content_block_delta" and isinstance(delta, dict):
        return list(_delta_pieces(delta, index))
    block = document.get("content_block")
    if document.get("type") == "content_block_start" and isinstance(block, dict):
        return list(_block_pieces(block, index))
    return []


def message_texts(document: Mapping[str, Any]) -> list[TextPiece]:
    """All output text of a whole message."""
    content = document.get("content") if document.get("type") == "message" else None
    return [
        piece
        for index, block in enumerate(content if isinstance(content, list) else ())
        if isinstance(block, dict)
        for piece in _block_pieces(block, index)
    ]


def message_reasons(document: Mapping[str, Any]) -> dict[int, str | None]:
    """{0: why it stopped}; {0: None} while it has not."""
    holder = document.get("delta") if document.get("type") == "message_delta" else document
    reason = holder.get("stop_reason") if isinstance(holder, dict) else None
    return {0: reason if isinstance(reason, str) and reason else None}


def message_about(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object that has the id and the model; the tier is in the usage."""
    message = document.get("message")
    if isinstance(message, dict):
        return message
    return document if document.get("type") == "message" else {}


def _delta_pieces(delta: Mapping[str, Any], index: object) -> Iterator[TextPiece]:
    for name in _TEXTS:
        if isinstance(text := delta.get(name), str) and text:
            yield TextPiece((False, 0, index, name), text)
    if isinstance(text := delta.get(_THINKING), str) and text:
        yield TextPiece((True, 0, index, _THINKING), text)


def _block_pieces(block: Mapping[str, Any], index: object) -> Iterator[TextPiece]:
    """The text of a block; of a block that only begins, the name of its tool."""
    yield from _delta_pieces(block, index)
    if isinstance(name := block.get("name"), str) and name:
        yield TextPiece((False, 0, index, "name"), name)
    given = block.get("input")
    if isinstance(given, dict) and given:
        yield TextPiece((False, 0, index, "partial_json"), json.dumps(given, separators=(",", ":")))

"""OpenAI's Responses format: its events, and the whole response that ends a stream or is the answer itself."""

from collections.abc import Iterator, Mapping
from typing import Any

from metering.answers.texts import TextPiece
from metering.answers.words import type_of

_PREFIX = "response."
# Text that the model writes: an event of each of these has a piece of it in `delta`.
_DELTAS = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.mcp_call_arguments.delta",
        "response.mcp_call.arguments.delta",
        "response.code_interpreter_call_code.delta",
        "response.code_interpreter_call.code.delta",
        "response.output_audio_transcript.delta",
        "response.audio_transcript.delta",
        "response.audio.transcript.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary.delta",
        "response.reasoning.delta",
    }
)
_ADDED = "response.output_item.added"
# Fields of an output item that hold text, and of the parts in its lists.
_ITEM_TEXTS = ("name", "arguments", "input", "code", "text")
_PART_TEXTS = ("text", "refusal", "transcript")
_FINISHED = ("completed", "incomplete")


def is_response(document: Mapping[str, Any]) -> bool:
    """Whether a document is of this format."""
    return type_of(document).startswith(_PREFIX) or document.get("object") == "response"


def response_deltas(document: Mapping[str, Any]) -> list[TextPiece]:
    """The piece of output in an event: at most one, but the name of a tool has a lane of its own."""
    type_, delta = type_of(document), document.get("delta")
    if type_ in _DELTAS and isinstance(delta, str) and delta:
        place = (document.get("output_index"), document.get("content_index"), document.get("summary_index"))
        return [TextPiece(("reasoning" in type_, 0, *place, "delta"), delta)]
    item = document.get("item")
    if type_ == _ADDED and isinstance(item, dict) and isinstance(name := item.get("name"), str) and name:
        return [TextPiece((False, 0, document.get("output_index"), "name"), name)]
    return []


def response_texts(document: Mapping[str, Any]) -> list[TextPiece]:
    """All output text of a whole response, which its events have told before if it was streamed."""
    output = _response(document).get("output")
    return [
        piece
        for place, item in enumerate(output if isinstance(output, list) else ())
        if isinstance(item, dict)
        for piece in _item_pieces(item, place)
    ]


def response_reasons(document: Mapping[str, Any]) -> dict[int, str | None]:
    """{0: why it finished}; {0: None} while it has not."""
    response = _response(document)
    status = response.get("status")
    if status not in _FINISHED:
        return {0: None}
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return {0: reason if isinstance(reason, str) and reason else str(status)}


def response_about(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object that has the id, the model and the service tier."""
    return _response(document)


def response_has_audio(document: Mapping[str, Any]) -> bool:
    """Whether an event has audio, whose tokens cannot be counted here."""
    return document.get("type") in ("response.audio.delta", "response.output_audio.delta")


def _response(document: Mapping[str, Any]) -> Mapping[str, Any]:
    response = document.get("response")
    if isinstance(response, dict):
        return response
    return document if document.get("object") == "response" else {}


def _item_pieces(item: Mapping[str, Any], place: int) -> Iterator[TextPiece]:
    reasoning = item.get("type") == "reasoning"
    for name in _ITEM_TEXTS:
        if isinstance(text := item.get(name), str) and text:
            yield TextPiece((reasoning, 0, place, name), text)
    for group in ("content", "summary"):
        parts = item.get(group)
        for number, part in enumerate(parts if isinstance(parts, list) else ()):
            for name in _PART_TEXTS:
                text = part.get(name) if isinstance(part, dict) else None
                if isinstance(text, str) and text:
                    yield TextPiece((reasoning, 0, place, group, number, name), text)

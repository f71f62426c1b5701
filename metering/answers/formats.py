"""Which of the three formats a document of an upstream is in, and how its output is read."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from metering.answers.messages import (
    is_message,
    message_about,
    message_deltas,
    message_reasons,
    message_texts,
)
from metering.answers.responses import (
    is_response,
    response_about,
    response_deltas,
    response_has_audio,
    response_reasons,
    response_texts,
)
from metering.answers.texts import TextPiece, finish_reasons, has_audio, message_pieces, text_pieces


class Format(NamedTuple):
    """How to read documents of one format. `texts` repeats what `deltas` of earlier documents have told.

    `reasons` gives the finish reason of each choice, None of one that is unfinished; `about` gives the object that
    has the response's id, model and service tier.
    """

    deltas: Callable[[dict[str, Any]], list[TextPiece]]
    texts: Callable[[dict[str, Any]], list[TextPiece]]
    reasons: Callable[[dict[str, Any]], dict[int, str | None]]
    about: Callable[[dict[str, Any]], Mapping[str, Any]]
    has_audio: Callable[[dict[str, Any]], bool]


CHAT = Format(text_pieces, message_pieces, finish_reasons, lambda document: document, has_audio)
RESPONSES = Format(response_deltas, response_texts, response_reasons, response_about, response_has_audio)
MESSAGES = Format(message_deltas, message_texts, message_reasons, message_about, lambda _: False)


def format_of(document: Mapping[str, Any]) -> Format:
    """The format of a document; OpenAI's chat format if it is in none of the others."""
    if "choices" in document or ("type" not in document and "object" not in document):
        return CHAT
    if is_message(document):
        return MESSAGES
    return RESPONSES if is_response(document) else CHAT

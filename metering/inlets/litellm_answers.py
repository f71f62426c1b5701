"""What LiteLLM passes on of an answer, as documents of the upstream's format, and whose usage it is.

LiteLLM completes a stream's usage with its own tokenizer, and the last chunk does not show that. The chunks that
its stream wrapper keeps have only what the upstream has reported. These are read; the last chunk's usage is not.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from metering.answers.chunks import EventTooLargeError, SseParser
from metering.answers.json_reading import decode_object, read_documents
from metering.answers.usage import usage_parts

# Where wrappers keep the wrapper of the upstream's stream.
_INNER = ("completion_stream", "litellm_custom_stream_wrapper", "litellm_model_response_stream")
_MAX_DEPTH = 4
# A larger answer, such as of embeddings, is not read again.
_MAX_RAW = 1 << 20


def kept_chunks(response: object) -> list[Any] | None:
    """The chunks that LiteLLM keeps of a stream, with the upstream's usage; None if they cannot be reached."""
    for _ in range(_MAX_DEPTH):
        chunks = getattr(response, "chunks", None)
        if isinstance(chunks, list):
            return chunks
        response = next((inner for name in _INNER if (inner := getattr(response, name, None)) is not None), None)
    return None


def as_document(item: object) -> dict[str, Any] | None:
    """A chunk or an answer as plain values; None if it is neither."""
    if isinstance(item, dict):
        return item
    dump = getattr(item, "model_dump", None)
    if not callable(dump):
        return None
    try:
        found = dump(exclude_none=True)
    except TypeError:
        found = dump()
    return found if isinstance(found, dict) else None


def usage_in(item: object) -> dict[str, Any] | None:
    """The usage object of a kept chunk."""
    usage = item.get("usage") if isinstance(item, Mapping) else getattr(item, "usage", None)
    return None if usage is None else as_document(usage)


def has_finish(item: object) -> bool:
    """Whether a kept chunk has a finish reason."""
    document = as_document(item) or {}
    choices = document.get("choices")
    return any(isinstance(choice, dict) and choice.get("finish_reason") for choice in choices or ())


def without_usage(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the usage that LiteLLM may have made up."""
    plain = {name: value for name, value in document.items() if name != "usage"}
    for name in ("message", "response"):
        inner = plain.get(name)
        if isinstance(inner, dict) and "usage" in inner:
            plain[name] = {key: value for key, value in inner.items() if key != "usage"}
    return plain


class SseReader:
    """The documents in answers that LiteLLM passes on as text, of which a piece may end anywhere."""

    def __init__(self) -> None:
        self._parser = SseParser()

    def documents(self, piece: bytes | str) -> Iterator[dict[str, Any]]:
        data = piece.encode(errors="replace") if isinstance(piece, str) else piece
        try:
            events = self._parser.feed(data)
        except EventTooLargeError:
            self._parser = SseParser()
            return
        for event in events:
            document = decode_object(event.data) if event.data is not None else None
            if document is not None:
                yield document


def raw_answer(details: Mapping[str, Any]) -> tuple[dict[str, Any] | None, bool]:
    """The upstream's own answer to an unstreamed request if it can be read, and whether it has a usage."""
    original = details.get("original_response")
    if isinstance(original, Mapping):
        document: dict[str, Any] | None = dict(original)
    elif isinstance(original, str | bytes):
        text = original.encode(errors="replace") if isinstance(original, str) else original
        if len(text) > _MAX_RAW:
            return None, b'"usage' in text
        documents = read_documents(text)
        document = documents[0] if documents is not None and len(documents) == 1 else None
    else:
        document = as_document(original)
    return document, document is not None and bool(usage_parts(document))

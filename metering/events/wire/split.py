"""The first step of the slow path: split a body that cannot be decoded as a whole into its events."""

import json
import re

import msgspec

from metering.core.errors import MeteringError

_raw_batch = msgspec.json.Decoder(list[msgspec.Raw])
_untyped = msgspec.json.Decoder()

# Strings, brackets and commas. Nothing between two of these affects where an event ends.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_OPENING, _CLOSING = b"[{", b"]}"

# Counting brackets is slow enough to delay other requests, so a larger body is refused as a whole.
MAX_COUNTED_BYTES = 256 * 1024


class InvalidJsonError(MeteringError):
    """The body as a whole is not valid JSON, so its events cannot be told apart."""


def split_json(body: bytes) -> list[bytes]:
    """The elements of an array; the body itself if it is any other JSON value.

    Raises:
        InvalidJsonError: the body is not valid JSON; the message says where.
    """
    is_array = body.lstrip()[:1] == b"["
    try:
        if is_array:
            return [bytes(raw) for raw in _raw_batch.decode(body)]
        _untyped.decode(body)
    except RecursionError as error:
        if is_array and len(body) <= MAX_COUNTED_BYTES:
            return _split_by_structure(body)
        raise InvalidJsonError("the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _split_leniently(body, error)
    return [body]


def _split_by_structure(body: bytes) -> list[bytes]:
    """The elements of an array with an element nested too deeply to decode: counts brackets only."""
    elements: list[bytes] = []
    depth, begins = 0, 0
    for token in _TOKEN.finditer(body):
        char = token[0][:1]
        if char in _OPENING:
            depth += 1
            begins = token.end() if depth == 1 else begins
        elif char in _CLOSING:
            depth -= 1
        if depth == 0 or (depth == 1 and char == b","):
            elements.append(body[begins : token.start()])
            begins = token.end()
        if depth == 0:
            break
    if depth != 0 or body[begins:].strip():
        raise InvalidJsonError("the body is nested too deeply, and is incomplete")
    return elements


def _split_leniently(body: bytes, error: Exception) -> list[bytes]:
    """The events of a body that msgspec refuses because of a lone surrogate, which JSON itself allows."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        reason = str(error).removeprefix("JSON is malformed: ")
        raise InvalidJsonError(f"the body is not valid JSON: {reason}") from error
    events = document if isinstance(document, list) else [document]
    return [json.dumps(event).encode() for event in events]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")

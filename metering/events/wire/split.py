"""The slow path's first step: a body that cannot be decoded at once, as the bytes of its events one by one."""

import json
import re

import msgspec

from metering.core.errors import MeteringError

_raw_batch = msgspec.json.Decoder(list[msgspec.Raw])
_untyped = msgspec.json.Decoder()

# What JSON's structure is made of; anything between two of these is of no matter for where an event ends.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_OPENING, _CLOSING = b"[{", b"]}"

# Counting the brackets of a body takes long enough to keep others waiting; a larger one is refused as a whole.
MAX_COUNTED_BYTES = 256 * 1024


class InvalidJsonError(MeteringError):
    """The body is not JSON at all, so there are no events to look at."""


def split_json(body: bytes) -> list[bytes]:
    """The elements of an array, or the body itself if it is anything else.

    Raises:
        InvalidJsonError: it is neither; with where it breaks off.
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
    """The elements of an array of which one is nested too deeply to be read: counts brackets, decodes nothing."""
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
        raise InvalidJsonError("the body is nested too deeply, and breaks off")
    return elements


def _split_leniently(body: bytes, error: Exception) -> list[bytes]:
    """The events of a body that msgspec refuses for a lone surrogate in one of them; JSON as such allows those."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        reason = str(error).removeprefix("JSON is malformed: ")
        raise InvalidJsonError(f"the body is not valid JSON: {reason}") from error
    events = document if isinstance(document, list) else [document]
    return [json.dumps(event).encode() for event in events]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")

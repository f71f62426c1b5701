"""JSON as upstreams and clients really write it: what strict JSON refuses is read leniently, within bounds."""

import json
from typing import Any

import msgspec

_decode = msgspec.json.decode
# The bytes that are no UTF-8 become lone surrogates, which `repaired` replaces.
_lenient = json.JSONDecoder(strict=False, parse_int=float)


def read_json(data: bytes) -> Any:
    """The value in `data`. NaN, lone surrogates, control characters and bytes that are no UTF-8 are accepted.

    Raises:
        ValueError: it is no JSON by any reading, or nested too deeply.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return _lenient.decode(data.decode("utf-8-sig", "surrogateescape"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def decode_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in `data`, read leniently; None for anything else."""
    try:
        value = read_json(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_documents(data: bytes) -> list[dict[str, Any]] | None:
    """The objects in `data`: one, an array of them, or one a line. None if it is anything else."""
    try:
        return _objects(read_json(data))
    except ValueError:
        lines = [line for line in data.splitlines() if line.strip()]
    if len(lines) < 2:
        return None
    documents = [decode_object(line) for line in lines]
    return None if None in documents else [each for each in documents if each is not None]


def _objects(value: object) -> list[dict[str, Any]] | None:
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return value
    return None


def repaired(text: str) -> str:
    """The text as valid Unicode: halves of surrogate pairs are joined, and what stays alone is replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text

"""Fields of records: found by their path, and read as texts and counts, whatever stands there."""

from collections.abc import Mapping
from typing import Any

from metering.answers.usage import read_count
from metering.answers.words import MAX_NAME, MAX_NOTE, exact_text

_MAX_SHOWN = 80
# What formats write for a value that is not there.
_ABSENT = ("", "-")


def value_at(record: Mapping[str, Any], path: str) -> Any:
    """The value of a field, by its whole name or else along the dots of the path; None without one.

    >>> value_at({"a.b": 1, "a": {"b": 2, "c": {"d": 3}}}, "a.b"), value_at({"a": {"c": {"d": 3}}}, "a.c.d")
    (1, 3)
    """
    if path in record:
        return record[path]
    head, dot, rest = path.partition(".")
    inner = record.get(head)
    return value_at(inner, rest) if dot and isinstance(inner, dict) else None


def text_at(record: Mapping[str, Any], path: str) -> str | None:
    """A text, also where it is a whole number; None where nothing stands."""
    value = value_at(record, path)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64:
        return str(value)
    return value if isinstance(value, str) and value not in _ABSENT else None


def first_text(record: Mapping[str, Any], *paths: str) -> str | None:
    """The first of these texts that stands there."""
    return next((text for path in paths if (text := text_at(record, path)) is not None), None)


def first_count(record: Mapping[str, Any], *paths: str) -> int | None:
    """The first of these counts that stands there."""
    return next((count for path in paths if (count := read_count(value_at(record, path))) is not None), None)


def first_name(record: Mapping[str, Any], *paths: str) -> str | None:
    """The first of these names, such as of models, that an event can have."""
    return next(
        (name for path in paths if (name := exact_text(text_at(record, path), MAX_NAME)) is not None), None
    )


def note_of(value: object) -> str | None:
    """A short text for an event; None if the value cannot be one."""
    return exact_text(value, MAX_NOTE)


def id_of(record: object, *paths: str) -> str | None:
    """The id of a record, as answers may repeat it."""
    return exact_text(first_text(record, *paths), MAX_NAME) if isinstance(record, dict) else None


def shown(value: object) -> str:
    """A value as reasons show it: short, and of any value that is not plain only the type."""
    if value is not None and not isinstance(value, str | int | float):
        return f"a value of type {type(value).__name__}"
    text = repr(value[:_MAX_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"

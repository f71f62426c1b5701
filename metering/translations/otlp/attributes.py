"""Read attributes: the first of several names that has a value, as text, as a number, or as yes or no."""

from collections.abc import Iterable

from metering.translations.otlp.records import Attributes

MAX_ID, MAX_NAME, MAX_NOTE = 128, 256, 1024


def first_text(attributes: Attributes, names: Iterable[str], *, most: int) -> str | None:
    """The first text that is not blank, without NUL and cut to `most` characters. Integers count as text."""
    for name in names:
        text = storable(_text(attributes.get(name)), most=most)
        if text:
            return text
    return None


def first_id(attributes: Attributes, names: Iterable[str]) -> str | None:
    """The first text that is not blank, whole: of an id nothing is cut."""
    return next((text for name in names if (text := _text(attributes.get(name)))), None)


def storable(text: str, *, most: int) -> str:
    """A text as an event may have it: without NUL, and not too long."""
    return text.replace("\0", "").strip()[:most]


def first_integer(attributes: Attributes, names: Iterable[str]) -> int | None:
    """The first integer that is 0 or more and fits an event's counters."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53:
            return value
    return None


def first_flag(attributes: Attributes, names: Iterable[str]) -> bool | None:
    """The first that is true or false, or says so."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
    return None


def first_texts(attributes: Attributes, names: Iterable[str], *, most: int, each: int) -> list[str]:
    """The first list of texts, or text, that is not empty: at most `most` texts of `each` characters."""
    for name in names:
        value = attributes.get(name)
        texts = value if isinstance(value, list) else [_text(value)]
        known = [cut for text in texts if (cut := storable(text, most=each))]
        if known:
            return known[:most]
    return []


def _text(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""

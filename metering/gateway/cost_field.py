"""`usage.cost_usd_cents` in answers that show their usage: null, until the stream is final (`generations.py`)."""

import re
from typing import Any

import msgspec

_FIELD = b'"cost_usd_cents":null'
# The opening of the usage object, and its closing brace if it is empty. Within a string, quotes are escaped.
_USAGE = re.compile(rb'"usage"\s*:\s*\{(\s*\})?')
_HOLDERS = ("response", "message")


def with_cost_field(raw: bytes, document: dict[str, Any]) -> bytes:
    """The event or body with the field in its usage object; everything else stays byte for byte.

    Without a usage, or with one that cannot be found for certain, it is returned as it is.
    """
    usage = document.get("usage")
    for name in _HOLDERS:
        if usage is None and isinstance(holder := document.get(name), dict):
            usage = holder.get("usage")
    if not isinstance(usage, dict) or "cost_usd_cents" in usage:
        return raw
    places = list(_USAGE.finditer(raw))
    if len(places) != 1:
        return raw
    place = places[0]
    if place[1] is not None:
        return raw[: place.start(1)] + _FIELD + raw[place.start(1) :]
    return raw[: place.end()] + _FIELD + b"," + raw[place.end() :]


def whole_with_cost_field(body: bytes) -> bytes:
    """The same for a whole answer that is one JSON object."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body
    return with_cost_field(body, document) if isinstance(document, dict) else body

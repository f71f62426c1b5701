"""Short texts of upstreams that go into events: bounded, and of valid characters only."""

from collections.abc import Mapping
from typing import Any

# The bounds of texts in events (docs/events.md).
MAX_ID, MAX_NAME, MAX_NOTE = 128, 256, 1_024


def clean(value: object, *, name: bool = False) -> str | None:
    """Text for an event: bounded, without NUL and lone surrogates; None if nothing is left."""
    if not isinstance(value, str):
        return None
    limit = MAX_NAME if name else MAX_NOTE
    return value.replace("\0", "")[:limit].encode(errors="ignore").decode() or None


def exact_text(value: object, most: int) -> str | None:
    """The value, if it can be a text of an event as it is; None if it would have to be changed."""
    if not isinstance(value, str) or not value or len(value) > most or "\0" in value:
        return None
    return value if value.encode(errors="ignore").decode() == value else None


def type_of(document: Mapping[str, Any]) -> str:
    """The `type` of a document; empty if it is none or no text."""
    type_ = document.get("type")
    return type_ if isinstance(type_, str) else ""


def error_code(document: dict[str, Any]) -> str | None:
    """The short code of a document's error; None without one."""
    error = document.get("error")
    response = document.get("response")
    if not error and isinstance(response, dict):
        error = response.get("error")
    if not error and document.get("type") == "error":
        # OpenAI's Responses format has the code and the message beside the type.
        error = {"code": document.get("code")}
    if not error:
        return None
    detail = error if isinstance(error, dict) else {}
    code = detail.get("code")
    if isinstance(code, int) and not isinstance(code, bool):
        code = str(code)
    return clean(code) or clean(detail.get("type")) or "upstream_error"

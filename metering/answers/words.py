"""Short texts of upstreams that go into events: bounded, and of valid characters only."""

from typing import Any

_MAX_NAME = 256
_MAX_NOTE = 1_024


def clean(value: object, *, name: bool = False) -> str | None:
    """Text for an event: bounded, without NUL and lone surrogates; None if nothing is left."""
    if not isinstance(value, str):
        return None
    limit = _MAX_NAME if name else _MAX_NOTE
    return value.replace("\0", "")[:limit].encode(errors="ignore").decode() or None


def error_code(document: dict[str, Any]) -> str | None:
    """The short code of an error object; None without an error."""
    error = document.get("error")
    if not error:
        return None
    detail = error if isinstance(error, dict) else {}
    code = detail.get("code")
    if isinstance(code, int) and not isinstance(code, bool):
        code = str(code)
    return clean(code) or clean(detail.get("type")) or "upstream_error"

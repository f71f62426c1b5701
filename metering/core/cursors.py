"""Cursors: the position of a page's last row, opaque to clients, valid across restarts."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime

from metering.core.errors import MeteringError


class InvalidCursorError(MeteringError):
    """The cursor is not one of ours, or belongs to another list."""


def encode_cursor(position: Sequence[str]) -> str:
    """A cursor for the page behind `position`."""
    return base64.urlsafe_b64encode(json.dumps(list(position)).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, *, length: int) -> list[str] | None:
    """The position in a cursor, which has `length` parts; None for the first page.

    Raises:
        InvalidCursorError: it is not a cursor of this list.
    """
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = json.loads(base64.urlsafe_b64decode(padded.encode()))
        json.dumps(position, ensure_ascii=False).encode()  # refuses lone surrogates, which no text of ours has
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _not_a_cursor() from error
    if not isinstance(position, list) or not all(isinstance(part, str) for part in position):
        raise _not_a_cursor()
    if len(position) != length or any("\0" in part for part in position):
        raise _of_another_query()
    return position


def moment_in(part: str) -> datetime:
    """A moment in a position.

    Raises:
        InvalidCursorError: it is not one.
    """
    try:
        return datetime.fromisoformat(part)
    except ValueError as error:
        raise _of_another_query() from error


def number_in(part: str) -> int:
    """A whole number in a position, 0 or more.

    Raises:
        InvalidCursorError: it is not one.
    """
    if not part.isdecimal() or len(part) > 18:
        raise _of_another_query()
    return int(part)


def _not_a_cursor() -> InvalidCursorError:
    return InvalidCursorError("cursor: not a next_cursor of this service")


def _of_another_query() -> InvalidCursorError:
    return InvalidCursorError("cursor: belongs to another query")

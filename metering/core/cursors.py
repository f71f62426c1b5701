"""Cursors: the position of a page's last row, opaque to clients, valid across restarts."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime

from metering.core.errors import MeteringError


class InvalidCursorError(MeteringError):
    """The cursor was not issued by this service, or belongs to another list."""


def encode_cursor(position: Sequence[str]) -> str:
    """A cursor for the page after `position`."""
    return base64.urlsafe_b64encode(json.dumps(list(position)).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, *, length: int) -> list[str] | None:
    """The position in a cursor, as `length` parts; None without a cursor, for the first page.

    Raises:
        InvalidCursorError: the cursor is malformed, or belongs to another list.
    """
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = json.loads(base64.urlsafe_b64decode(padded.encode()))
        json.dumps(position, ensure_ascii=False).encode()  # fails for lone surrogates, which no position contains
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _not_a_cursor() from error
    if not isinstance(position, list) or not all(isinstance(part, str) for part in position):
        raise _not_a_cursor()
    if len(position) != length or any("\0" in part for part in position):
        raise _of_another_query()
    return position


def parse_time(part: str) -> datetime:
    """Parse a time from a position.

    Raises:
        InvalidCursorError: the part is not a time.
    """
    try:
        return datetime.fromisoformat(part)
    except ValueError as error:
        raise _of_another_query() from error


def parse_number(part: str) -> int:
    """Parse an integer of at least 0 from a position.

    Raises:
        InvalidCursorError: the part is not such a number.
    """
    if not part.isdecimal() or len(part) > 18:
        raise _of_another_query()
    return int(part)


def _not_a_cursor() -> InvalidCursorError:
    return InvalidCursorError("cursor: not a next_cursor of this service")


def _of_another_query() -> InvalidCursorError:
    return InvalidCursorError("cursor: belongs to another query")

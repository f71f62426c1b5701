"""Cursors: the position of a page's last row, opaque to clients, good across restarts."""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime

import msgspec

from metering.core.errors import MeteringError


class InvalidCursorError(MeteringError):
    """A cursor that is not one of ours, or is of another list."""


def encode_cursor(position: Sequence[str]) -> str:
    """A cursor for the page behind `position`."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(position))).decode().rstrip("=")


def decode_cursor(cursor: str | None, *, length: int) -> list[str] | None:
    """The position in a cursor, of so many parts; None for the first page.

    Raises:
        InvalidCursorError: it is not one of our cursors for this query.
    """
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = msgspec.json.decode(base64.urlsafe_b64decode(padded.encode()), type=list[str])
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise InvalidCursorError("cursor: not a next_cursor of this service") from error
    if len(position) != length or any("\0" in part for part in position):
        raise _of_another_query()
    return position


def moment_in(part: str) -> datetime:
    """A moment in a position.

    Raises:
        InvalidCursorError: it is none.
    """
    try:
        return datetime.fromisoformat(part)
    except ValueError as error:
        raise _of_another_query() from error


def number_in(part: str) -> int:
    """A whole number in a position, 0 or more.

    Raises:
        InvalidCursorError: it is none.
    """
    if not part.isdecimal() or len(part) > 18:
        raise _of_another_query()
    return int(part)


def _of_another_query() -> InvalidCursorError:
    return InvalidCursorError("cursor: belongs to another query")

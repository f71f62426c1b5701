"""Cursors: the position of a page's last row, opaque to clients, valid across restarts.

A cursor is `p` and its parts, separated by dots, such as `p.1795446000000000.acme`. Each list describes its
cursors by a pattern, and every text of this pattern is a position, whether or not a row is there.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

from metering.core.errors import MeteringError

# The parts of positions. Text has `~` and two hexadecimal digits for each byte that is none of these characters.
TEXT = "(?:[A-Za-z0-9_-]|~(?:0[1-9A-F]|[1-9A-F][0-9A-F]))*"
TIME = "-?[0-9]{1,18}"
NUMBER = "[0-9]{1,18}"

_FIRST = "p"
_CURSOR = re.compile(rf"{_FIRST}(?:\.{TEXT})+")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# At the ends of the calendar there is no time before or after.
_EARLIEST, _LATEST = datetime(2, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_BOUNDS = (_EARLIEST - _EPOCH) // _MICROSECOND, (_LATEST - _EPOCH) // _MICROSECOND


class InvalidCursorError(MeteringError):
    """The cursor was not issued by this service, or belongs to another list."""


def cursor_pattern(*parts: str) -> str:
    """The pattern of the cursors of a list whose positions have these parts: TEXT, TIME or NUMBER each.

    >>> cursor_pattern(TIME, NUMBER)
    '^p\\\\.-?[0-9]{1,18}\\\\.[0-9]{1,18}$'
    """
    return "^" + r"\.".join((_FIRST, *parts)) + "$"


def encode_cursor(position: Sequence[str]) -> str:
    """A cursor for the page after `position`.

    >>> encode_cursor(["42", "a.b"])
    'p.42.a~2Eb'
    """
    return ".".join((_FIRST, *map(_escape, position)))


def decode_cursor(cursor: str | None, *, length: int) -> list[str] | None:
    """The position in a cursor, as `length` parts; None without a cursor, for the first page.

    Raises:
        InvalidCursorError: the cursor is malformed, or belongs to another list.
    """
    if cursor is None:
        return None
    if _CURSOR.fullmatch(cursor) is None:
        raise InvalidCursorError("cursor: not a next_cursor of this service")
    position = [_unescape(part) for part in cursor.split(".")[1:]]
    if len(position) != length:
        raise _of_another_query()
    return position


def time_part(moment: datetime) -> str:
    """A time as a part of a position: microseconds since 1970, UTC."""
    return str((moment - _EPOCH) // _MICROSECOND)


def parse_time(part: str) -> datetime:
    """Parse a time from a position, in UTC.

    Raises:
        InvalidCursorError: the part is not a time.
    """
    if re.fullmatch(TIME, part) is None:
        raise _of_another_query()
    least, most = _BOUNDS
    return _EPOCH + _MICROSECOND * min(max(int(part), least), most)


def parse_number(part: str) -> int:
    """Parse an integer of at least 0 from a position.

    Raises:
        InvalidCursorError: the part is not such a number.
    """
    if re.fullmatch(NUMBER, part) is None:
        raise _of_another_query()
    return int(part)


def _escape(part: str) -> str:
    return "".join(chr(octet) if octet in _PLAIN else f"~{octet:02X}" for octet in part.encode())


def _unescape(part: str) -> str:
    return unquote_to_bytes(part.replace("~", "%")).decode(errors="replace")


def _of_another_query() -> InvalidCursorError:
    return InvalidCursorError("cursor: belongs to another query")

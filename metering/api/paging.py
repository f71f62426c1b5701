"""Cursors: the position of a page's last row, opaque to clients, good across restarts."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Query

from metering.api.errors import InvalidParameterError
from metering.api.shapes import Page

RowT = TypeVar("RowT")

Limit = Annotated[int, Query(ge=1, le=1000, description="Rows a page")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]


def encode_cursor(position: Sequence[str]) -> str:
    """A cursor for the page behind `position`."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(position))).decode().rstrip("=")


def decode_cursor(cursor: str | None, *, length: int) -> list[str] | None:
    """The position in a cursor; None for the first page.

    Raises:
        InvalidParameterError: it is not one of our cursors for this query.
    """
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = msgspec.json.decode(base64.urlsafe_b64decode(padded.encode()), type=list[str])
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise InvalidParameterError("cursor: not a next_cursor of this service") from error
    if len(position) != length or any("\0" in part for part in position):
        raise InvalidParameterError("cursor: belongs to another query")
    return position


def page_of(
    rows: Sequence[RowT],
    *,
    limit: int,
    shape: Callable[[RowT], dict[str, Any]],
    position: Callable[[RowT], Sequence[str]],
) -> Page:
    """A page of a query that was asked for one row more than `limit`: that row tells that there are more."""
    return Page(
        data=[shape(row) for row in rows[:limit]],
        next_cursor=encode_cursor(position(rows[limit - 1])) if len(rows) > limit else None,
    )

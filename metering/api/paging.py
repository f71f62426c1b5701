"""Pages of a list: how many rows, behind which position, and where the next ones are."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

from metering.api.shapes import Page
from metering.core.cursors import encode_cursor

RowT = TypeVar("RowT")

Limit = Annotated[int, Query(ge=1, le=1000, description="Rows a page")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]


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

"""Pages of a list: how many rows, after which position, and where the next ones are."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from typing_extensions import TypedDict

from metering.api.answers import described
from metering.core.cursors import cursor_pattern, encode_cursor

RowT = TypeVar("RowT")
ShapeT = TypeVar("ShapeT")

Limit = Annotated[int, Query(ge=1, le=1000, description="The most rows that one page may have.")]


def cursor_of(*parts: str) -> Any:
    """The query parameter for cursors of a list whose positions have these parts (`core.cursors`)."""
    return Query(
        description="`next_cursor` of the previous page, unchanged; without it the first page is answered.",
        json_schema_extra={"pattern": cursor_pattern(*parts)},
    )


NextCursor = Annotated[str | None, described("The `cursor` of the next page; null on the last page.")]


class Page(TypedDict, Generic[ShapeT]):
    """One page of a list. Ask for the next one with `cursor` set to `next_cursor`, and the same filters."""

    data: Annotated[list[ShapeT], described("The rows of this page.")]
    next_cursor: NextCursor


def page_of(
    rows: Sequence[RowT],
    *,
    limit: int,
    shape: Callable[[RowT], ShapeT],
    position: Callable[[RowT], Sequence[str]],
) -> Page[ShapeT]:
    """A page from the rows of a query for `limit` + 1 rows: the extra row shows that there is another page."""
    return {
        "data": [shape(row) for row in rows[:limit]],
        "next_cursor": encode_cursor(position(rows[limit - 1])) if len(rows) > limit else None,
    }


def whole_page(shapes: Sequence[ShapeT]) -> Page[ShapeT]:
    """A list that is always answered whole, in the form of a page."""
    return {"data": list(shapes), "next_cursor": None}

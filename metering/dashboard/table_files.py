"""Tables as files: all rows of a table, also those of the pages behind the one that is shown; or none."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from starlette.datastructures import QueryParams

from metering.dashboard.asking import Asked, Page
from metering.dashboard.errors import NoSuchThingError, WrongQuestionError
from metering.dashboard.files import File
from metering.dashboard.tables import Table, table_csv

# A file is made in memory, in the time that somebody waits for a page.
MOST_ROWS = 200_000


def table_file(asked: Asked, build: Callable[[Asked], Page], name: str) -> File:
    """One of a page's tables, read to its end in the snapshot of the request.

    Raises:
        NoSuchThingError: the page has no such table.
        WrongQuestionError: it has too many rows for a file; a part of it would look like the whole.
    """
    body = table_csv(_pages(asked, build, name)).encode()
    return File(name=f"{name}.csv", media_type="text/csv; charset=utf-8", body=body)


def _pages(asked: Asked, build: Callable[[Asked], Page], name: str) -> Iterator[Table]:
    rows = 0
    while True:
        table = _named(build(asked), name)
        rows += len(table.rows)
        if not table.whole or (table.more and rows >= MOST_ROWS):
            raise WrongQuestionError(
                f"{table.title}: more than {rows:,} rows, which is too much for this file. Narrow it down, or take"
                " a month as an export, which has no bound: Invoices, Downloads"
            )
        yield table
        if table.more is None:
            return
        asked = replace(asked, query=QueryParams(urlsplit(table.more).query))


def _named(page: Page, name: str) -> Table:
    for table in page.tables:
        if table.name == name:
            return table
    raise NoSuchThingError(f"this page has no table {name!r}")

"""What a page is asked (viewer, filters, a snapshot to read), and what it gives back (a template to render)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.datastructures import QueryParams

from metering.core.cursors import decode_cursor, encode_cursor
from metering.dashboard.errors import WrongQuestionError
from metering.dashboard.tables import Table
from metering.dashboard.viewers import Viewer
from metering.server.bootstrap import Service

_LONGEST_TEXT = 256
# Rows that are read at once for a file: of a list that goes on behind them, and of one that does not.
_ROWS_OF_FILE, _ALL_ROWS = 5_000, 50_000
# Filters that are of where one is, and not of what is shown.
_PLACES = ("csv", "behind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for a page, with the snapshot that answers it; `refreshes` when a part of one asks for itself."""

    service: Service
    connection: Connection
    viewer: Viewer
    query: QueryParams
    now: datetime
    refreshes: bool

    @property
    def for_file(self) -> bool:
        """Whether a table is wanted as a file, which has more rows than a page."""
        return "csv" in self.query

    def page_of(self, table: str, shown: int) -> int:
        """How many rows to read at once of a list that goes on behind them: more where it is the file."""
        return _ROWS_OF_FILE if self.query.get("csv") == table else shown

    def all_of(self, table: str, shown: int) -> int:
        """How many rows to read at most of a list that is read in one piece: more where it is the file."""
        return _ALL_ROWS if self.query.get("csv") == table else shown

    def text(self, name: str) -> str | None:
        """A filter; None when it is not set.

        Raises:
            WrongQuestionError: it is longer than anything that there is.
        """
        value = self.query.get(name, "").strip()
        if len(value) > _LONGEST_TEXT or "\0" in value:
            raise WrongQuestionError(f"{name}: at most {_LONGEST_TEXT} characters, none of them NUL")
        return value or None

    def id(self, name: str) -> str:
        """An id, to the letter: it may have any characters, so it is in the query and not in the path.

        Raises:
            WrongQuestionError: it is missing.
        """
        value = self.query.get(name, "")
        if not value or "\0" in value:
            raise WrongQuestionError(f"{name}: say which")
        return value

    def position(self, length: int) -> list[str] | None:
        """Behind which row the list goes on, in so many parts; None for its beginning.

        Raises:
            InvalidCursorError: it is of another list.
        """
        return decode_cursor(self.query.get("behind") or None, length=length)

    def further(self, path: str, position: Sequence[str]) -> str:
        """The address of the rows behind a position: for a file the next ones of the file."""
        csv = {"csv": self.query["csv"]} if self.for_file else {}
        return link(path, **self.filters, **csv, behind=encode_cursor(position))

    @property
    def filters(self) -> dict[str, str]:
        """What is asked for, from the first row on."""
        return {name: value for name, value in self.query.items() if name not in _PLACES}

    def moment(self, name: str) -> datetime | None:
        """A moment of a link, or a day of a form; both in UTC where they do not say otherwise.

        Raises:
            WrongQuestionError: it is neither.
        """
        given = self.text(name)
        if given is None:
            return None
        expected = f"{name}: expected a date such as 2026-11-23, got {given!r}"
        try:
            at = datetime.fromisoformat(given)
        except ValueError as error:
            raise WrongQuestionError(expected) from error
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        if not 1 < at.year < 9999:
            raise WrongQuestionError(expected)
        return at.astimezone(UTC)

    def one_of(self, name: str, allowed: Sequence[str]) -> str | None:
        """A filter that has one of a few values.

        Raises:
            WrongQuestionError: it has another.
        """
        value = self.text(name)
        if value is not None and value not in allowed:
            raise WrongQuestionError(f"{name}: {value!r} is not one of {', '.join(allowed)}")
        return value

    def customer(self, customer_id: str | None) -> str | None:
        """The customer that is looked at: the one asked for, or the viewer's only one.

        Raises:
            NoSuchThingError: the viewer may not see it. It is not told whether there is one.
        """
        return self.viewer.customer(customer_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What to render. `section` is where it is in the navigation; `tables` are those that it gives as files."""

    template: str
    title: str
    section: str
    context: Mapping[str, object]
    tables: Sequence[Table] = ()
    zone: str = "UTC"
    crumbs: Sequence[tuple[str, str]] = field(default=())


def link(path: str, **filters: str | None) -> str:
    """An address within the dashboard, with the filters that are set."""
    query = urlencode({name: value for name, value in filters.items() if value is not None})
    return f"/dashboard/{path}{'?' if query else ''}{query}"

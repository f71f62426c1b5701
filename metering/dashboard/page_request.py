"""A request for a page (viewer, filters, database snapshot), and the page that answers it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import Connection
from starlette.datastructures import QueryParams

from metering.core.cursors import decode_cursor, encode_cursor
from metering.dashboard.arranging import Sort, sort_name
from metering.dashboard.errors import InvalidFilterError
from metering.dashboard.links import link
from metering.dashboard.preferences import NO_PREFERENCES, Preferences
from metering.dashboard.sessions import Viewer
from metering.dashboard.tables import Table
from metering.server.bootstrap import Service
from metering.streams.settlement import NEEDS_PERSON, State

_MAX_TEXT = 256
# Rows that a CSV file reads at once: of a list with pages, and of a list without.
_ROWS_PER_READ, _MAX_ROWS = 5_000, 50_000
# Query parameters that are not filters; `open_…` name what is open beside a list.
OPEN_PARAMETERS = ("open_customer", "open_stream")
_NOT_FILTERS = ("csv", "behind", *OPEN_PARAMETERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """A signed-in request, with the snapshot that answers it. `refreshes` when htmx reloads a part of the page.

    `origin` is the address that the browser has of this service, without a path. `preferences` are those in
    its cookies.
    """

    service: Service
    connection: Connection
    viewer: Viewer
    query: QueryParams
    now: datetime
    refreshes: bool
    origin: str
    preferences: Preferences = NO_PREFERENCES

    @property
    def for_file(self) -> bool:
        """Whether a table is requested as a CSV file."""
        return "csv" in self.query

    def asking(self, **query: str) -> "PageRequest":
        """The same request with the query of a page, for a form that is answered with that page."""
        return replace(self, query=QueryParams(query))

    def page_limit(self, table: str, shown: int) -> int:
        """How many rows to read at once of a list with pages: `shown`, or more for the table's file."""
        return _ROWS_PER_READ if self.query.get("csv") == table else shown

    @property
    def is_customers(self) -> bool:
        """Whether the viewer is a customer, who sees its own and nothing of how the service is run."""
        return self.viewer.customer_id is not None

    def words(self, to_staff: str, *, to_customer: str) -> str:
        """A text that says to staff what to do, and to a customer what it means."""
        return to_customer if self.is_customers else to_staff

    def stream_state(self, state: State) -> str:
        """A stream's state. A customer need not know why a cost is not known yet."""
        if self.is_customers and state in NEEDS_PERSON:
            return "cost_not_known_yet"
        return state.value

    def list_limit(self, table: str, shown: int) -> int:
        """How many rows to read of a list without pages: `shown`, or more for the table's file."""
        return _MAX_ROWS if self.query.get("csv") == table else shown

    def text(self, name: str) -> str | None:
        """A filter; None when it is not set.

        Raises:
            InvalidFilterError: it is too long or contains NUL.
        """
        value = self.query.get(name, "").strip()
        if len(value) > _MAX_TEXT or "\0" in value:
            raise InvalidFilterError(f"{name}: at most {_MAX_TEXT} characters, none of them NUL")
        return value or None

    def id(self, name: str) -> str:
        """A required id, unchanged. Ids may contain any character, so they are in the query, not in the path.

        Raises:
            InvalidFilterError: it is missing.
        """
        value = self.query.get(name, "")
        if not value or "\0" in value:
            raise InvalidFilterError(f"{name}: required")
        return value

    def position(self, length: int) -> list[str] | None:
        """The position of the last row before this page, in `length` parts; None on the first page.

        Raises:
            InvalidCursorError: it belongs to another list.
        """
        return decode_cursor(self.query.get("behind") or None, length=length)

    def next_page(self, path: str, position: Sequence[str]) -> str:
        """The address of the rows after a position, on the page or for the file."""
        csv = {"csv": self.query["csv"]} if self.for_file else {}
        return link(path, **self.filters, **csv, behind=encode_cursor(position))

    @property
    def filters(self) -> dict[str, str]:
        """All filters that are set, without the position."""
        return {name: value for name, value in self.query.items() if name not in _NOT_FILTERS}

    def sort(self, table: str, *, by: Sequence[str], default: str) -> Sort:
        """The sort of a list with several pages: one of the columns `by` that the database sorts by."""
        given = Sort.parse(self.query.get(sort_name(table), default))
        return given if given.column in by else Sort.parse(default)

    def time(self, name: str) -> datetime | None:
        """A time or a day, in UTC unless it has an offset.

        Raises:
            InvalidFilterError: it is neither.
        """
        given = self.text(name)
        if given is None:
            return None
        expected = f"{name}: expected a date such as 2026-11-23, got {given!r}"
        try:
            at = datetime.fromisoformat(given)
        except ValueError as error:
            raise InvalidFilterError(expected) from error
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        if not 1 < at.year < 9999:
            raise InvalidFilterError(expected)
        return at.astimezone(UTC)

    def one_of(self, name: str, allowed: Sequence[str]) -> str | None:
        """A filter with a fixed set of values.

        Raises:
            InvalidFilterError: it has another value.
        """
        value = self.text(name)
        if value is not None and value not in allowed:
            raise InvalidFilterError(f"{name}: {value!r} is not one of {', '.join(allowed)}")
        return value

    def customer(self, customer_id: str | None) -> str | None:
        """The requested customer, or the only one that the viewer's key may see; None for all.

        Raises:
            NotFoundError: the viewer may not see this customer, whether or not it exists.
        """
        return self.viewer.customer(customer_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What to render. `section` is its place in the navigation; `tables` are available as CSV files.

    `calendar` says what its months and days are, where that is not plain. `customers` are the ids of those that it
    names outside its tables. `customer_id` is set if all of it is about one customer.
    """

    template: str
    title: str
    section: str
    context: Mapping[str, object]
    tables: Sequence[Table] = ()
    calendar: str = ""
    customers: Collection[str] = ()
    customer_id: str | None = None
    crumbs: Sequence[tuple[str, str]] = field(default=())

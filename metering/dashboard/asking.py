"""What a page is asked (viewer, filters, a snapshot to read), and what it gives back (a template to render)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.datastructures import QueryParams

from metering.bootstrap import Service
from metering.dashboard.errors import WrongQuestionError
from metering.dashboard.tables import Table
from metering.dashboard.viewers import Viewer

_LONGEST_TEXT = 256


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

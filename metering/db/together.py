"""Several statements of one transaction, sent one after the other and waited for once.

Each statement is run when those before it are done, and sees what they have changed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, Dialect, TextClause
from sqlalchemy.exc import DBAPIError

FirstT = TypeVar("FirstT")
SecondT = TypeVar("SecondT")
ThirdT = TypeVar("ThirdT")


# A statement and its parameters.
Statement = tuple[TextClause, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Query(Generic[FirstT]):
    """A statement, and what its rows mean; columns of a row are attributes."""

    statement: TextClause
    parameters: Mapping[str, Any]
    read: Callable[[Sequence[Any]], FirstT]

    def ask(self, connection: Connection) -> FirstT:
        """Run the statement alone."""
        return self.read(connection.execute(self.statement, self.parameters).all())


def nothing(_: Sequence[Any]) -> None:
    """The meaning of rows that say nothing."""


def ask_two(connection: Connection, first: Query[FirstT], second: Query[SecondT]) -> tuple[FirstT, SecondT]:
    """The answers to two queries. Raises as `run_together` does."""
    one, two = run_together(connection, *((each.statement, each.parameters) for each in (first, second)))
    return first.read(one), second.read(two)


def ask_three(
    connection: Connection, first: Query[FirstT], second: Query[SecondT], third: Query[ThirdT]
) -> tuple[FirstT, SecondT, ThirdT]:
    """The answers to three queries. Raises as `run_together` does."""
    queries = (first, second, third)
    one, two, three = run_together(connection, *((each.statement, each.parameters) for each in queries))
    return first.read(one), second.read(two), third.read(three)


def run_together(connection: Connection, *statements: Statement) -> list[Sequence[Any]]:
    """Run statements with their parameters; the rows of each, empty for one that has none.

    Raises:
        DBAPIError: the first statement that fails, as if it were run alone; those behind it are not run.
    """
    if not statements:
        return []
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    cursors = []
    try:
        with errors_of_sqlalchemy(connection, "; ".join(str(statement) for statement, _ in statements)):
            with raw.pipeline():
                for statement, parameters in statements:
                    cursors.append(raw.cursor(row_factory=namedtuple_row))
                    cursors[-1].execute(compiled(statement, connection.dialect).encode(), parameters)
            return [cursor.fetchall() if cursor.description else [] for cursor in cursors]
    finally:
        for cursor in cursors:
            cursor.close()


@contextmanager
def errors_of_sqlalchemy(connection: Connection, statement: str) -> Iterator[None]:
    """Within the block, the driver's errors become those of SQLAlchemy, which callers handle."""
    try:
        yield
    except psycopg.Error as error:
        raise cast(
            Exception, DBAPIError.instance(statement, None, error, psycopg.Error, dialect=connection.dialect)
        ) from error


@lru_cache(maxsize=256)
def compiled(statement: TextClause, dialect: Dialect) -> str:
    """The statement as psycopg takes it, with named parameters."""
    return str(statement.compile(dialect=dialect))

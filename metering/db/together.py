"""Several statements of one transaction, sent one after the other and waited for once.

Each statement is run when those before it are done, and sees what they have changed.
"""

from collections.abc import Callable, Mapping, Sequence
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


def run_together(connection: Connection, *statements: tuple[TextClause, Mapping[str, Any]]) -> list[Sequence[Any]]:
    """Run statements with their parameters; the rows of each, empty for one that has none.

    Raises:
        DBAPIError: the first statement that fails, as if it were run alone; those behind it are not run.
    """
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    cursors = []
    try:
        with raw.pipeline():
            for statement, parameters in statements:
                cursors.append(raw.cursor(row_factory=namedtuple_row))
                cursors[-1].execute(_sql(statement, connection.dialect).encode(), parameters)
        return [cursor.fetchall() if cursor.description else [] for cursor in cursors]
    except psycopg.Error as error:
        # SQLAlchemy did not run them, so it is the driver's error, which no caller expects.
        texts = "; ".join(str(statement) for statement, _ in statements)
        raise cast(
            Exception, DBAPIError.instance(texts, None, error, psycopg.Error, dialect=connection.dialect)
        ) from error
    finally:
        for cursor in cursors:
            cursor.close()


@lru_cache(maxsize=256)
def _sql(statement: TextClause, dialect: Dialect) -> str:
    """The statement as psycopg takes it."""
    return str(statement.compile(dialect=dialect))

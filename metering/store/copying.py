"""COPY within a transaction that SQLAlchemy began."""

from collections.abc import Iterable
from typing import Any

import psycopg
from sqlalchemy import Connection


def copy_rows(connection: Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Write rows with a `COPY ... FROM STDIN` statement."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    with raw.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in rows:
            copy.write_row(row)

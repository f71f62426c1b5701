"""COPY within a transaction that SQLAlchemy began."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from sqlalchemy import Connection

_encode = msgspec.json.Encoder().encode


def moment(at: datetime) -> str:
    """A moment as a row has it: psycopg takes a microsecond to write one, msgspec a fifth of that."""
    return _encode(at)[1:-1].decode()


def copy_rows(connection: Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Write rows with a `COPY ... FROM STDIN` statement."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    with raw.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in rows:
            copy.write_row(row)

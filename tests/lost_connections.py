"""Connections to PostgreSQL that break at a statement."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event

from tests.database import Database


@contextmanager
def breaking(database: Database, *, statements: str) -> Iterator[list[int]]:
    """Until the block ends, PostgreSQL ends each session that would run such a statement: their processes."""
    ended: list[int] = []

    def end(connection: Connection, *executed: Any) -> None:
        if statements in executed[1]:
            raw = connection.connection.driver_connection
            assert isinstance(raw, psycopg.Connection)
            ended.append(raw.info.backend_pid)
            with psycopg.connect(database.url) as owner:
                # Citus has another function of this name.
                owner.execute("SELECT pg_terminate_backend(%s::integer, 5000::bigint)", [raw.info.backend_pid])

    event.listen(Engine, "before_cursor_execute", end)
    try:
        yield ended
    finally:
        event.remove(Engine, "before_cursor_execute", end)

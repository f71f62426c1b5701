"""Transactions that read the database as it was at one moment."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql
from sqlalchemy import Connection, Engine, text

from metering.db.citus import on_citus
from metering.db.engine import transaction

_READ_ONLY = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
# A node takes its snapshot at the first statement that reaches it: this one reaches all, at a row of each shard.
_ON_EVERY_NODE = text("SELECT 1 FROM markups LIMIT 1")


@contextmanager
def read_transaction(engine: Engine, *, snapshot: str | None = None) -> Iterator[Connection]:
    """A read-only transaction that sees the database as it is at the first statement, however long it runs.

    Or as another transaction does that has shared its `snapshot` and has not ended. On Citus it sees each node as
    it is when it begins, within milliseconds of each other, and a shared snapshot is that of the coordinator.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be reached.
    """
    with transaction(engine) as connection:
        connection.execute(_READ_ONLY)
        if snapshot is not None:
            share = sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot))
            connection.execute(text(share.as_string()))
        if on_citus(connection):
            connection.execute(_ON_EVERY_NODE)
        yield connection


@contextmanager
def long_read_transaction(engine: Engine, *, snapshot: str | None = None) -> Iterator[Connection]:
    """The same for work that computes for minutes between two statements.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be reached.
    """
    with read_transaction(engine, snapshot=snapshot) as connection:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield connection


def share_snapshot(connection: Connection) -> str:
    """The name by which other transactions see the database as this one does, while it runs."""
    name: str = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
    return name

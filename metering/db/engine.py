"""Connections to PostgreSQL: as the service, which may not change facts, or as the owner, which migrates."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from metering.core.errors import MeteringError

SERVICE_ROLE = "metering_service"
READER_ROLE = "metering_reader"

# Every session of the service gives up the privileges of its login, whoever that is, and keeps UTC.
_SERVICE_OPTIONS = f"-c role={SERVICE_ROLE} -c timezone=UTC -c default_transaction_isolation=read\\ committed"


_CANCEL_SECONDS = 5


class DatabaseUnavailableError(MeteringError):
    """PostgreSQL cannot be reached; nothing was written."""


class UnsafeDatabaseError(MeteringError):
    """The server or the role would let facts be lost or changed; the service refuses to run on it."""


def service_engine(url: str, *, pool_size: int = 5) -> Engine:
    """A pooled engine whose sessions run as the service role."""
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={"options": _SERVICE_OPTIONS, "connect_timeout": 5},
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
    )


def owner_engine(url: str) -> Engine:
    """An engine for migrations, with the privileges of its login."""
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={"options": "-c timezone=UTC", "connect_timeout": 5},
        pool_size=1,
    )


def service_conninfo(url: str) -> str:
    """The same login for psycopg itself, as the ingest writer uses it."""
    parsed = make_url(url).set(drivername="postgresql")
    return psycopg.conninfo.make_conninfo(
        parsed.render_as_string(hide_password=False),
        options=_SERVICE_OPTIONS,
        connect_timeout=5,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
        application_name="metering-ingest",
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed when the block ends, rolled back when it raises.

    Raises:
        DatabaseUnavailableError: no connection could be made.
    """
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise DatabaseUnavailableError(f"PostgreSQL cannot be reached: {error.orig}") from error
    with connection, connection.begin():
        yield connection


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads, and sees everything as it was when it began, however long it takes.

    Raises:
        DatabaseUnavailableError: no connection could be made.
    """
    with transaction(engine) as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        yield connection


def cancel_statement(connection: Connection) -> None:
    """Have PostgreSQL end what this connection, which another thread uses, waits for; nothing if for nothing."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    raw.cancel_safe(timeout=_CANCEL_SECONDS)


def check_safe(engine: Engine) -> None:
    """Refuse a server that may lose commits, and a role that may change facts.

    Raises:
        UnsafeDatabaseError: naming the setting or the role, and the fix.
    """
    with transaction(engine) as connection:
        row = connection.execute(_SAFETY).one()
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            if getattr(row, setting) == "off":
                raise UnsafeDatabaseError(f"PostgreSQL runs with {setting}=off and can lose commits: turn it on")
        if row.version < 150000:
            raise UnsafeDatabaseError(f"PostgreSQL 15 or newer is needed, this is {row.version // 10000}")
        if row.is_superuser or row.owns_facts:
            raise UnsafeDatabaseError(
                f"the service runs as {row.current_user}, which could change facts: let it run as {SERVICE_ROLE}"
            )


_SAFETY = text(
    """
    SELECT current_setting('fsync') AS fsync,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('full_page_writes') AS full_page_writes,
           current_setting('server_version_num')::int AS version,
           current_user AS current_user,
           (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser,
           EXISTS (SELECT FROM pg_class WHERE relname IN ('journal', 'charges')
                   AND relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)) AS owns_facts
    """
)

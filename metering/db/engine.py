"""Connections to PostgreSQL: as the service, which cannot change facts, or as the owner, which migrates."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
from psycopg.errors import QueryCanceled
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from metering.core.errors import MeteringError
from metering.db.deadlines import SERVER_TCP_OPTIONS, TCP_OPTIONS, connect_with_deadlines
from metering.db.failures import lost_node, why_unreachable

log = logging.getLogger(__name__)

SERVICE_ROLE = "metering_service"
READER_ROLE = "metering_reader"

# Every session of the service drops the privileges of its login, and uses UTC. Compiling a query takes longer than
# any of ours gains by it.
_SERVICE_OPTIONS = (
    f"-c role={SERVICE_ROLE} -c timezone=UTC -c default_transaction_isolation=read\\ committed -c jit=off"
    f" {SERVER_TCP_OPTIONS}"
)
# What reads whole tables. PostgreSQL cannot know that a list it is given is short, or that a table has grown.
_SCANS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
_BY_KEY = "".join(f" -c {name}=off" for name in _SCANS)
_SCANS_OFF, _SCANS_ON = (
    text("SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name in _SCANS))
    for value in ("off", "on")
)
_SUMS = " -c work_mem=32MB"
# A statement that was run ten times would get a plan for any range and any customer: 40 times slower for a month.
_PLAN_EACH = " -c plan_cache_mode=force_custom_plan"
_CANCEL_SECONDS = 5
_CONNECT_SECONDS = 5
STATEMENT_TIMEOUT = timedelta(minutes=5)


class DatabaseUnavailableError(MeteringError):
    """PostgreSQL cannot be reached; nothing was written."""


class QueryTimeoutError(MeteringError):
    """The database took too long to answer this request; a narrower one may succeed."""


class UnsafeDatabaseError(MeteringError):
    """The server can lose commits, or the role can change facts; the service refuses to run."""


# Classes of SQLSTATE: connections, deadlocks, resources, locks, shutdowns and timeouts, the operating system.
_PASSING = frozenset({"08", "40", "53", "55", "57", "58"})


def will_pass(error: Exception) -> bool:
    """Whether an error is the database's state rather than the data's: the same work may succeed later."""
    if isinstance(error, DatabaseUnavailableError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    if lost_node(cause) is not None:
        return True
    return isinstance(cause, psycopg.OperationalError) and (not cause.sqlstate or cause.sqlstate[:2] in _PASSING)


def request_failure(error: DBAPIError) -> QueryTimeoutError | DatabaseUnavailableError | None:
    """What to answer when a statement of a request failed; None for one that would fail again."""
    if isinstance(error.orig, QueryCanceled):
        # By the time limit, or because the client has left.
        return QueryTimeoutError("ask for less: a shorter range, or a single customer")
    if isinstance(error, OperationalError) or will_pass(error):
        log.error("PostgreSQL failed during a request", extra={"error": str(error.orig).strip()})
        return DatabaseUnavailableError("PostgreSQL failed during the request")
    return None


def service_engine(
    url: str,
    *,
    pool_size: int = 5,
    overflow: int | None = None,
    wait: timedelta = timedelta(seconds=30),
    statement_timeout: timedelta = STATEMENT_TIMEOUT,
    idle_timeout: timedelta = STATEMENT_TIMEOUT,
    by_key: bool = False,
    sums: bool = False,
) -> Engine:
    """A pooled engine whose sessions run as the service role.

    `overflow` connections are opened beside the pool when it is used up, by default as many as it has; for one of
    them, `wait` is waited. A statement ends after `statement_timeout`, a transaction that does nothing after
    `idle_timeout`. With `by_key`, every row is looked up by its key: a plan from when tables were small would read
    them whole until PostgreSQL has counted them again. Otherwise each statement is planned for its values. With
    `sums`, tens of thousands of rows are grouped in memory.
    """
    options = (
        f"{_SERVICE_OPTIONS} -c statement_timeout={_milliseconds(statement_timeout)}"
        f" -c idle_in_transaction_session_timeout={_milliseconds(idle_timeout)}"
        f"{_BY_KEY if by_key else _PLAN_EACH}{_SUMS if sums else ''}"
    )
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={"options": options, "connect_timeout": _CONNECT_SECONDS, **TCP_OPTIONS},
        pool_size=pool_size,
        max_overflow=pool_size if overflow is None else overflow,
        pool_timeout=wait.total_seconds(),
        pool_pre_ping=True,
        use_native_hstore=False,
    )
    connect_with_deadlines(engine, statement_timeout=statement_timeout)
    return engine


def _milliseconds(time: timedelta) -> int:
    return round(time / timedelta(milliseconds=1))


def owner_engine(url: str) -> Engine:
    """An engine for migrations, with the privileges of its login.

    A statement waits a second at most for a lock: what comes after it waits as long as it does.
    """
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={
            "options": "-c timezone=UTC -c lock_timeout=1s",
            "connect_timeout": _CONNECT_SECONDS,
            **TCP_OPTIONS,
        },
        pool_size=2,
        use_native_hstore=False,
    )


def is_postgres_url(url: str) -> bool:
    """Whether a text can be the URL of a PostgreSQL database."""
    try:
        return make_url(url).get_backend_name() in ("postgresql", "postgres")
    except (ArgumentError, ValueError):
        return False


def service_conninfo(url: str) -> str:
    """A connection string for psycopg, as the service role; the ingest writer connects with it."""
    parsed = make_url(url).set(drivername="postgresql")
    return psycopg.conninfo.make_conninfo(
        parsed.render_as_string(hide_password=False),
        options=_SERVICE_OPTIONS,
        connect_timeout=_CONNECT_SECONDS,
        **TCP_OPTIONS,
        application_name="metering-ingest",
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed when the block ends, rolled back when it raises.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be reached.
    """
    with connected(engine) as connection, connection.begin():
        yield connection


def connected(engine: Engine) -> Connection:
    """A connection of the engine's pool, which has to be closed.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be reached.
    """
    try:
        return engine.connect()
    except DBAPIError as error:
        raise DatabaseUnavailableError(f"PostgreSQL cannot be reached: {why_unreachable(error.orig)}") from error
    except PoolTimeoutError as error:
        raise DatabaseUnavailableError("no connection to PostgreSQL became free in time") from error


def cancel_statement(connection: Connection) -> None:
    """Cancel the statement that another thread is running on this connection, if there is one."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    raw.cancel_safe(timeout=_CANCEL_SECONDS)


def check_safe(engine: Engine) -> None:
    """Check that the server cannot lose commits and that the role cannot change facts.

    Raises:
        UnsafeDatabaseError: a check fails; the message names the setting or the role, and the fix.
    """
    with transaction(engine) as connection:
        row = connection.execute(_SAFETY).one()
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            if getattr(row, setting) == "off":
                raise UnsafeDatabaseError(f"PostgreSQL runs with {setting}=off and can lose commits: turn it on")
        if row.version < 150000:
            raise UnsafeDatabaseError(f"PostgreSQL 15 or newer is required, this is {row.version // 10000}")
        if row.is_superuser or row.owns_facts:
            raise UnsafeDatabaseError(
                f"the service runs as {row.current_user}, which can change facts: run it as {SERVICE_ROLE}"
            )


# Answered at once on a connection that works.
PING = "SELECT 1"
# The first setting that is off and must not be; NULL if all are on. As SQL, for the writer's own connection.
UNSAFE_SETTINGS = """
SELECT name FROM (VALUES ('fsync'), ('synchronous_commit'), ('full_page_writes')) AS needed (name)
WHERE current_setting(name) = 'off' LIMIT 1
"""

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


@contextmanager
def rows_by_key(connection: Connection) -> Iterator[None]:
    """Within the block, rows are looked up by their keys instead of reading whole tables."""
    connection.execute(_SCANS_OFF)
    yield
    connection.execute(_SCANS_ON)

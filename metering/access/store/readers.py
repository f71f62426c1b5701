"""Readers: PostgreSQL logins that see only the schema `reporting`, for Grafana, Metabase and psql."""

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from metering.core.errors import MeteringError
from metering.db.engine import READER_ROLE

_NAME = re.compile(r"(?!pg_|metering_)[a-z][a-z0-9_]{0,62}")
# A tool that leaks connections must not use up those of the service.
_MAX_CONNECTIONS = 10
# Guards against accidents. A session can change these settings, but not its privileges.
READER_SETTINGS: Mapping[str, str] = {
    "default_transaction_read_only": "on",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
    "work_mem": "32MB",
    "search_path": "reporting",
    "timezone": "UTC",
}


class InvalidReaderNameError(MeteringError):
    """The name is not allowed for a reader."""


class ReaderExistsError(MeteringError):
    """A login with this name already exists."""


class UnknownReaderError(MeteringError):
    """No reader has this name."""


class ReaderRefusedError(MeteringError):
    """This login may not create or remove readers; an administrator must do it."""


_LOGIN_EXISTS = text("SELECT 1 FROM pg_roles WHERE rolname = :name")
# The creator of the reader role is a member of it as well, with the admin option.
_READERS = text(
    f"""
    SELECT r.rolname FROM pg_roles r JOIN pg_auth_members m ON m.member = r.oid
    JOIN pg_roles granted ON granted.oid = m.roleid AND granted.rolname = '{READER_ROLE}'
    WHERE r.rolcanlogin AND NOT r.rolsuper AND NOT r.rolcreaterole AND NOT m.admin_option ORDER BY r.rolname
    """
)


def add_reader(connection: Connection, *, name: str, password: str) -> None:
    """Create the login. PostgreSQL receives a SCRAM verifier of the password, never the password itself.

    Raises:
        InvalidReaderNameError: the name is not allowed.
        ReaderExistsError: a login with this name already exists.
        ReaderRefusedError: this login may not create roles; the message says what an administrator has to run.
    """
    if not _NAME.fullmatch(name):
        raise InvalidReaderNameError(
            f"name: expected lower-case letters, digits and _, not starting with pg_ or metering_, got {name!r}"
        )
    if connection.execute(_LOGIN_EXISTS, {"name": name}).first():
        raise ReaderExistsError(f"a login {name!r} already exists: choose another name, or drop that login")
    _administer(
        connection,
        reader_statements(name, _verifier(connection, name, password)),
        shown=reader_statements(name, "<a password>"),
    )


def reader_statements(name: str, password: str) -> list[sql.Composed]:
    """The statements that create a reader."""
    role = sql.Identifier(name)
    return [
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} CONNECTION LIMIT {} IN ROLE {}").format(
            role, sql.Literal(password), sql.Literal(_MAX_CONNECTIONS), sql.Identifier(READER_ROLE)
        ),
        *(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.Identifier(setting), sql.Literal(value))
            for setting, value in READER_SETTINGS.items()
        ),
    ]


def list_readers(connection: Connection) -> list[str]:
    """The names of all readers."""
    return list(connection.execute(_READERS).scalars())


def drop_reader(connection: Connection, *, name: str) -> None:
    """Remove a reader. Other logins cannot be removed.

    Raises:
        UnknownReaderError: no reader has this name.
        ReaderRefusedError: this login may not drop roles; the message says what an administrator has to run.
    """
    if name not in list_readers(connection):
        raise UnknownReaderError(f"no reader has the name {name!r}: `metering reader list` shows them")
    statements = [sql.SQL("DROP ROLE {}").format(sql.Identifier(name))]
    _administer(connection, statements, shown=statements)


def _verifier(connection: Connection, name: str, password: str) -> str:
    encrypt = _psycopg(connection).pgconn.encrypt_password
    return encrypt(password.encode(), name.encode(), b"scram-sha-256").decode()


def _administer(connection: Connection, statements: list[sql.Composed], *, shown: list[sql.Composed]) -> None:
    """Run the statements. If that is refused, the error shows `shown` for an administrator to run."""
    raw = _psycopg(connection)
    try:
        for statement in statements:
            connection.exec_driver_sql(statement.as_string(raw))
    except ProgrammingError as error:
        wanted = "; ".join(each.as_string(raw) for each in shown)
        raise ReaderRefusedError(
            f"this login may not do that ({str(error.orig).splitlines()[0]}); as an administrator run: {wanted}"
        ) from error


def _psycopg(connection: Connection) -> psycopg.Connection[Any]:
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw

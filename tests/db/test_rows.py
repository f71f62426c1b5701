"""COPY fails as any other statement does, so that callers handle its errors."""

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError, OperationalError, ProgrammingError

from metering.db.engine import transaction
from metering.db.rows import copy_rows
from tests.database import Database

_COPY = "COPY customers (customer_id, created_at) FROM STDIN"


def test_a_row_that_the_server_refuses_is_an_error_of_sqlalchemy(engine: Engine) -> None:
    with pytest.raises(DataError, match="not a time"), transaction(engine) as connection:
        copy_rows(connection, _COPY, [("acme", "not a time")])


def test_a_statement_that_the_server_refuses_is_an_error_of_sqlalchemy(engine: Engine) -> None:
    with pytest.raises(ProgrammingError, match="nowhere"), transaction(engine) as connection:
        copy_rows(connection, "COPY nowhere FROM STDIN", [("acme",)])


def test_a_server_that_goes_away_is_an_error_of_sqlalchemy(engine: Engine, database: Database) -> None:
    with engine.connect() as connection:
        backend = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with psycopg.connect(database.url) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
        with pytest.raises(OperationalError):
            copy_rows(connection, _COPY, [("acme", "2026-11-23T15:00:00Z")])
        connection.invalidate()

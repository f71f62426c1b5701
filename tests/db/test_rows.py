"""COPY fails as any other statement does, so that callers handle its errors; batches are read one ahead."""

import threading
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError, OperationalError, ProgrammingError

from metering.db.engine import transaction
from metering.db.rows import copy_rows, read_ahead
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


def test_the_next_batch_is_read_while_one_is_used_and_no_further_one() -> None:
    taken = [threading.Event() for _ in range(4)]

    def batches() -> Iterator[int]:
        for number, event in enumerate(taken):
            event.set()
            yield number

    ahead = read_ahead(batches())
    assert next(ahead) == 0
    assert taken[1].wait(60)
    assert not taken[2].is_set()
    assert list(ahead) == [1, 2, 3]


def test_an_error_comes_where_its_batch_would_have_come() -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise ValueError("lost")

    ahead = read_ahead(batches())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="lost"):
        next(ahead)


def test_whoever_stops_early_waits_for_the_batch_that_is_being_read() -> None:
    is_read = threading.Event()

    def batches() -> Iterator[int]:
        yield 1
        is_read.set()
        yield 2

    ahead = read_ahead(batches())
    assert next(ahead) == 1
    ahead.close()  # type: ignore[attr-defined]
    assert is_read.is_set()

"""No wait for PostgreSQL is without an end, whether it is busy, out of connections, or silent."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from metering.db.engine import DatabaseUnavailableError, service_engine, transaction, will_pass
from metering.db.failures import took_too_long
from tests.database import Database
from tests.database_proxy import proxied

SECOND = timedelta(seconds=1)
SLEEP, NOTHING = text("SELECT pg_sleep(60)"), text("SELECT 1")


def test_postgresql_ends_a_statement_that_takes_too_long(database: Database) -> None:
    engine = service_engine(database.url, statement_timeout=SECOND)
    with (
        pytest.raises(OperationalError, match="statement timeout") as ended,
        transaction(engine) as connection,
    ):
        connection.execute(SLEEP)
    assert took_too_long(ended.value)
    engine.dispose()


def test_postgresql_ends_a_transaction_that_does_nothing_for_too_long(database: Database) -> None:
    engine = service_engine(database.url, idle_timeout=SECOND)
    with pytest.raises(DBAPIError) as ended:
        ask_twice(engine, between=lambda: time.sleep(2))
    assert took_too_long(ended.value)
    assert will_pass(ended.value)
    engine.dispose()


def ask_twice(engine: Engine, *, between: Callable[[], None]) -> None:
    with transaction(engine) as connection:
        connection.execute(NOTHING)
        between()
        connection.execute(NOTHING)


def test_postgresql_is_told_to_give_up_a_link_of_which_nothing_is_confirmed(engine: Engine) -> None:
    # They take effect over TCP only, and are shown as 0 elsewhere.
    given = text("SELECT reset_val FROM pg_settings WHERE name = :name AND source = 'client'")
    with transaction(engine) as connection:
        assert connection.execute(given, {"name": "tcp_user_timeout"}).scalar_one() == "30000"
        assert connection.execute(given, {"name": "tcp_keepalives_idle"}).scalar_one() == "5"


def test_a_pool_that_is_used_up_is_an_expected_failure(database: Database) -> None:
    engine = service_engine(database.url, pool_size=1, overflow=0, wait=SECOND / 5)
    with transaction(engine), pytest.raises(DatabaseUnavailableError, match="became free"), transaction(engine):
        pass
    engine.dispose()


def test_a_statement_on_a_silent_connection_ends_and_the_next_one_has_a_new_connection(database: Database) -> None:
    with proxied(database) as (proxy, through):
        engine = service_engine(through.url, statement_timeout=SECOND)
        began = time.monotonic()
        with pytest.raises(OperationalError) as ended:
            ask_twice(engine, between=lambda: proxy.silence(new_ones=False))
        assert not took_too_long(ended.value)
        assert 1.5 < time.monotonic() - began < 10
        began = time.monotonic()
        with transaction(engine) as connection:
            assert connection.execute(NOTHING).scalar_one() == 1
        assert time.monotonic() - began < 2
        engine.dispose()


def test_silent_connections_in_the_pool_cost_one_short_wait_together(database: Database) -> None:
    with proxied(database) as (proxy, through):
        engine = service_engine(through.url, pool_size=4)
        connections = [engine.connect() for _ in range(4)]
        for connection in connections:
            connection.execute(NOTHING)
        for connection in connections:
            connection.close()
        proxy.silence(new_ones=False)
        began = time.monotonic()
        for _ in range(4):
            with transaction(engine) as connection:
                connection.execute(NOTHING)
        assert time.monotonic() - began < 5
        engine.dispose()

"""A kept connection: one for transactions that follow each other, another after a failure or a pause."""

import time

import psycopg
import pytest
from sqlalchemy import Connection, text

from metering.db.engine import DatabaseUnavailableError, service_engine
from metering.db.kept import KeptConnection
from metering.server.bootstrap import Service
from metering.server.up import free_port
from tests.database import Database


def backend(connection: Connection) -> int:
    pid: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return pid


def test_transactions_that_follow_each_other_share_a_connection_and_commit(service: Service) -> None:
    kept = KeptConnection(service.engine)
    with kept.within_transaction() as connection:
        first = backend(connection)
        connection.execute(text("CREATE TEMPORARY TABLE kept (n int)"))
    with kept.within_transaction() as connection:
        assert backend(connection) == first
        assert connection.execute(text("SELECT count(*) FROM kept")).scalar_one() == 0
    kept.close()
    kept.close()


def test_what_fails_is_rolled_back_and_the_next_transaction_works(service: Service) -> None:
    kept = KeptConnection(service.engine)

    def fail() -> None:
        with kept.within_transaction() as connection:
            connection.execute(text("CREATE TEMPORARY TABLE kept (n int)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with kept.within_transaction() as connection:
        assert connection.execute(text("SELECT to_regclass('pg_temp.kept')")).scalar_one() is None
    kept.close()


def test_after_a_pause_a_connection_that_broke_is_replaced(database: Database, service: Service) -> None:
    kept = KeptConnection(service.engine)
    with kept.within_transaction() as connection:
        first = backend(connection)
    with psycopg.connect(database.url) as owner:
        owner.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    time.sleep(1.1)
    with kept.within_transaction() as connection:
        assert backend(connection) != first
    kept.close()


def test_an_unreachable_database_is_told() -> None:
    engine = service_engine(f"postgresql://127.0.0.1:{free_port()}/none")
    with pytest.raises(DatabaseUnavailableError), KeptConnection(engine).within_transaction():
        pass
    engine.dispose()

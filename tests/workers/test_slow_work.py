"""Work that takes longer than its short deadline gets a longer one, and smaller batches: it never stands still."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from metering.db.engine import service_engine, transaction
from metering.server.bootstrap import Service
from tests.database import Database
from tests.ended_streams import store_ended_stream
from tests.waiting import eventually
from workers.deadlines import Deadlines
from workers.finalizing import Finalizing

BATCH = 16
# A row of this table takes this long to write.
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END';
CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION slow();
"""


@contextmanager
def slow_table(database: Database, table: str, *, seconds: float) -> Iterator[None]:
    with psycopg.connect(database.url) as connection:
        connection.execute(SLOW.format(table=table, seconds=seconds))
    yield


@contextmanager
def impatient(database: Database, *, quick: float, patient: float) -> Iterator[Service]:
    """A service whose statements may take so many seconds."""
    with database.service(finalize_batch=BATCH) as service:
        engines = [
            service_engine(database.url, statement_timeout=timedelta(seconds=each)) for each in (quick, patient)
        ]
        yield replace(service, quick_engine=engines[0], engine=engines[1])
        for engine in engines:
            engine.dispose()


def one(database: Database, query: str) -> object:
    with psycopg.connect(database.url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_a_batch_that_takes_longer_than_any_deadline_is_halved_until_it_does_not(rated_database: Database) -> None:
    with psycopg.connect(rated_database.url) as connection:
        for number in range(BATCH):
            store_ended_stream(connection, f"s{number}")
    with (
        slow_table(rated_database, "charges", seconds=0.1),
        impatient(rated_database, quick=0.5, patient=1) as service,
    ):
        finalizing = Finalizing(lambda: service, on_batch=lambda *_: None)

        def is_done() -> bool:
            finalizing.drain()
            return one(rated_database, "SELECT count(*) FROM charges") == BATCH

        assert eventually(is_done)


def test_totals_of_a_long_backlog_are_rolled_up_within_the_longer_deadline(rated_database: Database) -> None:
    with psycopg.connect(rated_database.url) as connection:
        store_ended_stream(connection, "one")
    with (
        slow_table(rated_database, "totals_rolled_up", seconds=1.5),
        impatient(rated_database, quick=0.5, patient=30) as service,
    ):
        finalizing = Finalizing(lambda: service, on_batch=lambda *_: None)

        def is_done() -> bool:
            finalizing.drain()
            return one(rated_database, "SELECT count(*) FROM totals_hourly") == 1

        assert eventually(is_done)


def test_work_has_the_longer_deadline_until_it_is_fast_again(database: Database) -> None:
    deadlines = Deadlines(fast=timedelta(seconds=1))
    with impatient(database, quick=0.5, patient=5) as service:

        def sleep(seconds: float, *, work: str = "sleeping") -> bool:
            """Whether it had the longer deadline."""
            with deadlines.attempt(service, work) as attempt, transaction(attempt.engine) as connection:
                connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
            return attempt.engine is service.engine

        with pytest.raises(DBAPIError, match="statement timeout"):
            sleep(60)
        assert not sleep(0, work="another")
        assert sleep(1.2)
        assert sleep(0)
        assert not sleep(0)


def test_a_batch_gets_smaller_with_each_attempt_that_took_too_long_and_larger_with_each_fast_one(
    database: Database,
) -> None:
    deadlines = Deadlines(fast=timedelta(seconds=60))
    shares: list[int] = []
    with impatient(database, quick=0.2, patient=0.2) as service:
        for seconds in (60, 60, 60, 0, 0, 0, 0):
            try:
                with deadlines.attempt(service, "w") as attempt, transaction(attempt.engine) as connection:
                    shares.append(attempt.share_of(5))
                    connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
            except DBAPIError:
                assert seconds
    assert shares == [5, 2, 1, 1, 1, 2, 5]

"""Statements sent together: each sees the changes of the one before it, and errors are as for one alone."""

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from metering.db.engine import transaction
from metering.db.failures import why_failed
from metering.db.together import Query, ask_three, ask_two, nothing, run_together
from metering.server.bootstrap import Service
from tests.database import Database

_ADD = text("INSERT INTO counted VALUES (:number)")
_SUM = Query(text("SELECT coalesce(sum(n), 0) AS total FROM counted"), {}, lambda rows: int(rows[0].total))
_TABLE = text("CREATE TEMPORARY TABLE counted (n bigint PRIMARY KEY) ON COMMIT DROP")


def test_each_statement_sees_what_those_before_it_have_changed(service: Service) -> None:
    with transaction(service.engine) as connection:
        rows = run_together(
            connection,
            (_TABLE, {}),
            (_ADD, {"number": 2}),
            (_SUM.statement, {}),
            (_ADD, {"number": 3}),
            (_SUM.statement, {}),
        )
    assert [[tuple(row) for row in each] for each in rows] == [[], [], [(2,)], [], [(5,)]]


def test_queries_are_answered_in_their_order_together_and_alone(service: Service) -> None:
    words = Query(
        text("SELECT :word || '%' AS said, 7 AS n"), {"word": "a"}, lambda rows: (rows[0].said, rows[0].n)
    )
    many = Query(text("SELECT n FROM unnest(CAST(:numbers AS int[])) AS t (n)"), {"numbers": [3, 1]}, len)
    with transaction(service.engine) as connection:
        assert ask_two(connection, words, many) == (("a%", 7), 2)
        none = Query(text("SET LOCAL timezone = 'UTC'"), {}, nothing)
        assert ask_three(connection, none, many, words) == (None, 2, ("a%", 7))
        assert (words.ask(connection), many.ask(connection)) == (("a%", 7), 2)


def test_a_failure_is_that_of_the_statement_and_nothing_of_the_transaction_stays(service: Service) -> None:
    with transaction(service.engine) as connection:
        run_together(connection, (_TABLE, {}), (_ADD, {"number": 1}))
        point = connection.begin_nested()
        with pytest.raises(IntegrityError, match="counted_pkey"):
            run_together(connection, (_ADD, {"number": 2}), (_ADD, {"number": 2}), (_ADD, {"number": 3}))
        point.rollback()
        assert _SUM.ask(connection) == 1


def test_a_server_that_goes_away_is_told_as_for_any_statement(database: Database, service: Service) -> None:
    def lose() -> None:
        with transaction(service.engine) as connection:
            (pid,) = run_together(connection, (text("SELECT pg_backend_pid() AS pid"), {}))[0][0]
            with psycopg.connect(database.url) as owner:
                owner.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            run_together(connection, (text("SELECT 1"), {}), (text("SELECT 2"), {}))

    with pytest.raises(DBAPIError) as failed:
        lose()
    assert why_failed(failed.value) == "the connection to PostgreSQL was lost"
    with transaction(service.engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1

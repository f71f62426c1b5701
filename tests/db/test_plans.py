"""Statements are planned for their values: a plan for any range would read whole tables."""

from datetime import timedelta

from sqlalchemy import Engine, text

from metering.db.engine import service_engine, transaction
from metering.server.bootstrap import Service
from tests.database import Database

# More often than psycopg needs to prepare a statement, and PostgreSQL to consider a plan for any value.
TIMES = 30
ASKED = text("SELECT count(*) FROM charges WHERE ended_at >= now() - CAST(:since AS interval)")
PLANS = text(
    "SELECT sum(generic_plans), sum(custom_plans) FROM pg_prepared_statements"
    " WHERE statement LIKE '%FROM charges%'"
)


def plans(engine: Engine) -> tuple[int, int]:
    """How many plans for any value, and for its own values, a statement got that was run many times."""
    with transaction(engine) as connection:
        for days in range(TIMES):
            connection.execute(ASKED, {"since": timedelta(days=days)})
        generic, custom = connection.execute(PLANS).one()
    return int(generic), int(custom)


def test_a_worker_plans_each_statement(service: Service) -> None:
    for engine in (service.engine, service.quick_engine):
        generic, custom = plans(engine)
        assert generic == 0
        assert custom > TIMES / 2


def test_the_api_plans_each_statement_of_a_request(database: Database) -> None:
    with database.service(for_api=True) as service:
        generic, custom = plans(service.engine)
    assert generic == 0
    assert custom > TIMES / 2


def test_rows_that_are_looked_up_by_key_need_no_plan_of_their_own(database: Database) -> None:
    engine = service_engine(database.url, by_key=True)
    generic, _ = plans(engine)
    assert generic > 0
    engine.dispose()

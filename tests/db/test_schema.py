"""The schema: facts cannot be changed by the service, unsafe servers are refused."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg import errors
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

import migrations
from metering.db.engine import UnsafeDatabaseError, check_safe, owner_engine, service_engine, transaction
from metering.db.migrate import migrate
from metering.db.schema import (
    RetentionRefusedError,
    RoleMissingError,
    SchemaOutdatedError,
    SchemaTooNewError,
    UnknownSchemaError,
    allow_journal_drops,
    check_usable,
    drop_journal_partitions,
    ensure_journal_partitions,
)
from metering.server.embedded.data_dir import Services, ephemeral_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor
from tests.database import Database

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize("table", ["journal", "charges", "adjustments", "rate_cards", "rates"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET {} = {}"])
def test_the_service_can_not_change_or_remove_facts(engine: Engine, table: str, statement: str) -> None:
    with transaction(engine) as connection:
        column = next(iter(connection.execute(text(f"SELECT * FROM {table} LIMIT 0")).keys()))
    with pytest.raises(DBAPIError) as refused, transaction(engine) as connection:
        connection.execute(text(statement.format(table, column, column)))
    assert isinstance(refused.value.orig, errors.InsufficientPrivilege)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1"])
def test_the_database_refuses_amounts_that_are_no_money(database: Database, value: str) -> None:
    with psycopg.connect(database.url) as connection, pytest.raises(errors.CheckViolation):
        connection.execute(
            "INSERT INTO charges VALUES ('c', 's', 'ch', '2026-11-01', '2026-11', 'completed', 'p', 'm',"
            " NULL, NULL, '2026-11-01', '2026-11-01', 1, 1, 1, 1, 1, 1, 1, 'provider', false, 'delivered',"
            " 'rc', 'm', '[]', %s)",
            (value,),
        )


def partitions(database: Database) -> list[str]:
    with psycopg.connect(database.url) as connection:
        rows = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'journal'::regclass ORDER BY 1"
        ).fetchall()
    return [row[0] for row in rows]


def add_partition(database: Database, *, months_ago: int) -> str:
    with psycopg.connect(database.url) as connection:
        row = connection.execute(
            "SELECT to_char(m, 'YYYY_MM'), m, m + interval '1 month'"
            " FROM (SELECT date_trunc('month', now()) - make_interval(months => %s) AS m) AS month",
            (months_ago,),
        ).fetchone()
        assert row is not None
        name, begin, end = f"journal_{row[0]}", row[1].isoformat(), row[2].isoformat()
        statement = f"CREATE TABLE {name} PARTITION OF journal FOR VALUES FROM ('{begin}') TO ('{end}')"
        connection.execute(statement.encode())
    return name


def test_only_partitions_that_ended_before_the_retention_are_dropped(database: Database, engine: Engine) -> None:
    kept = partitions(database)
    # The month before this one ended less than 31 days ago, the one two before that surely more than 31.
    old = [add_partition(database, months_ago=months) for months in (14, 4, 3)]
    recent = add_partition(database, months_ago=1)
    allow_journal_drops(owner_engine(database.url), at_least=timedelta(days=31))
    assert drop_journal_partitions(engine, retention=timedelta(days=31)) == old
    assert partitions(database) == [recent, *kept]
    assert drop_journal_partitions(engine, retention=timedelta(days=31)) == []


def test_the_service_can_not_drop_the_journal_of_a_month_that_may_still_be_disputed(engine: Engine) -> None:
    with pytest.raises(DBAPIError, match="at least 31 days"):
        call_function(engine, days=30)
    with pytest.raises(DBAPIError) as refused, transaction(engine) as connection:
        connection.execute(text("DROP TABLE journal"))
    assert isinstance(refused.value.orig, errors.InsufficientPrivilege)


def call_function(engine: Engine, *, days: int) -> None:
    with transaction(engine) as connection:
        connection.execute(text("SELECT drop_journal_partitions(make_interval(days => :days))"), {"days": days})


def test_the_service_drops_no_more_of_the_journal_than_the_owner_allows(
    database: Database, engine: Engine
) -> None:
    old, owner = add_partition(database, months_ago=4), owner_engine(database.url)
    with pytest.raises(DBAPIError, match="allows to drop nothing"):
        call_function(engine, days=31)
    allow_journal_drops(owner, at_least=timedelta(days=400))
    with pytest.raises(DBAPIError, match="allows to drop what is older than 400 days"):
        call_function(engine, days=31)
    with pytest.raises(RetentionRefusedError, match="metering migrate"):
        drop_journal_partitions(engine, retention=timedelta(days=31))
    with pytest.raises(DBAPIError) as refused, transaction(engine) as connection:
        connection.execute(text("UPDATE journal_retention SET at_least = '31 days'"))
    assert isinstance(refused.value.orig, errors.InsufficientPrivilege)
    assert old in partitions(database)
    allow_journal_drops(owner, at_least=timedelta(days=31))
    assert drop_journal_partitions(engine, retention=timedelta(days=31)) == [old]


def test_this_code_needs_the_newest_migration() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert scripts.get_current_head() == migrations.HEAD


def test_versions_begin_with_a_number_that_grows_and_newer_migrations_name_the_oldest_code() -> None:
    scripts = list(ScriptDirectory(str(Path(migrations.__file__).parent)).walk_revisions())
    numbers = [script.revision.partition("_")[0] for script in scripts]
    assert numbers == sorted(set(numbers), reverse=True)
    assert all(len(number) == 4 for number in numbers)
    known = {script.revision for script in scripts}
    newer = [script for script in scripts if script.revision >= "0017"]
    assert newer
    oldest = [script.module.OLDEST_CODE for script in newer]
    assert set(oldest) <= known
    assert oldest == sorted(oldest, reverse=True), "what was taken away does not come back"


def test_code_runs_on_a_newer_schema_that_allows_it_and_on_no_other(database: Database, engine: Engine) -> None:
    owner = owner_engine(database.url)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9001_added_a_column'")
        check_usable(engine)
        assert migrate(owner) == "9001_added_a_column"
        connection.execute("UPDATE schema_compatibility SET oldest_code = '9001_added_a_column'")
        for refuse in (lambda: check_usable(engine), lambda: migrate(owner)):
            with pytest.raises(SchemaTooNewError, match=r"needs the code of 9001_.*install the newer release"):
                refuse()
        connection.execute("UPDATE alembic_version SET version_num = '0016_an_older_one'")
        with pytest.raises(SchemaOutdatedError, match="metering migrate"):
            check_usable(engine)


def test_migrating_again_changes_nothing(database: Database) -> None:
    engine = owner_engine(database.url)
    assert migrate(engine) == migrate(engine)


@pytest.fixture
def cluster() -> Iterator[Services]:
    """A server of a test's own: roles belong to the whole server."""
    with (
        ephemeral_data_dir() as data,
        Supervisor(quiet=True) as supervisor,
        embedded_services(data=data, supervisor=supervisor, valkey=False) as services,
    ):
        yield services


def log_in_as(services: Services, name: str, options: str) -> str:
    """Create a login that owns the database, and return its URL."""
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN {options}")  # type: ignore[arg-type]
        connection.execute(f"ALTER DATABASE metering OWNER TO {name}")  # type: ignore[arg-type]
    return services.database_url.replace("postgres@", f"{name}@", 1)


def test_an_ordinary_login_that_may_create_roles_is_enough(cluster: Services) -> None:
    url = log_in_as(cluster, "plain", "CREATEROLE")
    migrate(owner_engine(url))
    engine = service_engine(url)
    check_usable(engine)
    check_safe(engine)


def test_without_the_right_to_create_roles_the_error_names_the_statements_for_an_administrator(
    cluster: Services,
) -> None:
    url = log_in_as(cluster, "humble", "")
    with pytest.raises(RoleMissingError, match="CREATE ROLE metering_service NOLOGIN"):
        migrate(owner_engine(url))
    with psycopg.connect(cluster.database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE metering_service NOLOGIN; CREATE ROLE metering_reader NOLOGIN;")
        with pytest.raises(RoleMissingError, match="GRANT metering_service TO"):
            migrate(owner_engine(url))
        connection.execute("GRANT metering_service TO humble")
    migrate(owner_engine(url))
    check_safe(service_engine(url))


def test_a_database_without_our_schema_is_refused_with_what_to_run(services: Services) -> None:
    engine = owner_engine(services.database_url)
    with pytest.raises(SchemaOutdatedError, match="metering migrate"):
        check_usable(engine)


def test_the_service_refuses_to_run_as_superuser_or_owner(database: Database) -> None:
    with pytest.raises(UnsafeDatabaseError, match="can change facts"):
        check_safe(owner_engine(database.url))


def test_the_service_refuses_a_server_that_can_lose_commits(database: Database, engine: Engine) -> None:
    name = database.url.split("/")[3].split("?")[0]
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    engine.dispose()
    with pytest.raises(UnsafeDatabaseError, match="synchronous_commit=off"):
        check_safe(engine)


def test_the_service_makes_partitions_two_months_ahead_once(engine: Engine) -> None:
    ahead = datetime(2031, 11, 30, tzinfo=UTC)
    assert ensure_journal_partitions(engine, now=ahead) == 3
    assert ensure_journal_partitions(engine, now=ahead) == 0
    with transaction(engine) as connection:
        for month in ("2031_11", "2031_12", "2032_01"):
            assert connection.execute(text(f"SELECT to_regclass('journal_{month}')")).scalar_one() is not None


def test_a_journal_row_outside_all_partitions_is_an_error_not_lost(database: Database) -> None:
    with psycopg.connect(database.url) as connection, pytest.raises(errors.CheckViolation):
        connection.execute(
            "INSERT INTO journal (ingest_key_id, received_at, media_type, event_count, body)"
            " VALUES ('k', '1999-01-01', 'application/json', 1, '')"
        )


def test_a_login_that_may_not_make_schemas_takes_the_one_that_an_administrator_made(cluster: Services) -> None:
    url = log_in_as(cluster, "plain", "CREATEROLE")
    with psycopg.connect(cluster.database_url, autocommit=True) as connection:
        connection.execute("ALTER DATABASE metering OWNER TO postgres; GRANT CREATE ON SCHEMA public TO plain")
        with pytest.raises(ProgrammingError, match="permission denied for database"):
            migrate(owner_engine(url))
        connection.execute("CREATE SCHEMA reporting AUTHORIZATION plain")
    migrate(owner_engine(url))
    check_safe(service_engine(url))


def test_a_database_of_another_release_is_not_migrated(database: Database) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '2026_12_07_totals_by_hour'")
        connection.execute("DROP TABLE schema_compatibility")
    with pytest.raises(UnknownSchemaError, match=r"2026_12_07_totals_by_hour.*a new database"):
        migrate(owner_engine(database.url))

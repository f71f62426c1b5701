"""Readers are real logins: they read each view, and see, write and become nothing else."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import psycopg
import pytest
from psycopg import errors, sql
from sqlalchemy import make_url

from metering.access.manage_readers import create_reader
from metering.access.store.readers import (
    InvalidReaderNameError,
    ReaderExistsError,
    ReaderRefusedError,
    UnknownReaderError,
    drop_reader,
    list_readers,
    reader_statements,
)
from metering.db.engine import owner_engine, transaction
from metering.db.migrate import migrate
from metering.server.embedded.data_dir import ephemeral_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor
from tests.builders import NOW
from tests.command_line import CommandLine
from tests.reporting.views import PAGE, PROMISED

# Whoever is not the superuser has to prove that the password is known.
ACCESS = "local all postgres trust\nlocal all owner trust\nlocal all all scram-sha-256\n"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A migrated server of these tests' own, which asks for passwords: roles belong to the whole server."""
    with (
        ephemeral_data_dir() as data,
        Supervisor(quiet=True) as supervisor,
        embedded_services(data=data, supervisor=supervisor, valkey=False) as services,
    ):
        with psycopg.connect(services.database_url, autocommit=True) as connection:
            connection.execute("CREATE ROLE owner LOGIN CREATEROLE")
            connection.execute("ALTER DATABASE metering OWNER TO owner")
            (data / "postgres" / "pg_hba.conf").write_text(ACCESS)
            connection.execute("SELECT pg_reload_conf()")
        migrate(owner_engine(login(services.database_url, "owner")))
        yield services.database_url


def login(url: str, user: str, password: str | None = None) -> str:
    return make_url(url)._replace(username=user, password=password).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def grafana(server: str) -> str:
    """The URL of a reader, made by an owner that is no superuser."""
    return login(
        server,
        "grafana",
        create_reader(owner=owner_engine(login(server, "owner")), name="grafana", by="test", now=NOW),
    )


def refused(url: str, statement: str) -> type[Exception]:
    # Without the guard that a session can lift for itself: what is left are privileges.
    with psycopg.connect(url, options="-c default_transaction_read_only=off") as connection:
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(statement.encode())
        return caught.type


@pytest.mark.parametrize("view", PROMISED)
def test_a_reader_reads_each_view(grafana: str, view: str) -> None:
    with psycopg.connect(grafana) as connection:
        found = connection.execute(sql.SQL("SELECT * FROM reporting.{}").format(sql.Identifier(view)))
        described = [column.name for column in found.description or ()]
        assert described == [column.split()[0] for column in PROMISED[view].split(", ")]
        connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(view)))  # by its search_path


def test_a_reader_sees_no_table(grafana: str) -> None:
    with psycopg.connect(grafana) as connection:
        relations = [
            row[0]
            for row in connection.execute(
                "SELECT relname FROM pg_class"
                " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'p')"
            )
        ]
    assert {"charges", "journal", "entries", "newest_bills"} < set(relations)
    for name in relations:
        assert refused(grafana, f"SELECT * FROM public.{name}") is errors.InsufficientPrivilege
        assert refused(grafana, f"SELECT count(*) FROM public.{name}") is errors.InsufficientPrivilege


def test_a_reader_sees_no_other_relation_with_our_data(grafana: str) -> None:
    query = """SELECT c.oid::regclass::text FROM pg_class c
               WHERE c.relkind IN ('r', 'v', 'm', 'p', 'S', 'f')
               AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
               AND (has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                    OR has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))"""
    with psycopg.connect(grafana) as connection:
        assert {row[0] for row in connection.execute(query)} == set(PROMISED)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO reporting.rates (provider) VALUES ('x')",
        "UPDATE reporting.unbilled SET usd = 0",
        "DELETE FROM reporting.drift",
        "INSERT INTO public.customers (customer_id, created_at) VALUES ('x', now())",
        "CREATE TABLE public.mine (a int)",
        "CREATE TABLE reporting.mine (a int)",
        "CREATE VIEW reporting.mine AS SELECT 1",
        "DROP VIEW reporting.rates",
        "CREATE SCHEMA mine",
        "SELECT ensure_journal_partitions(now())",
        "SELECT public.ensure_journal_partitions(now())",
        "SELECT public.drop_journal_partitions(interval '31 days')",
        "COPY reporting.rates TO PROGRAM 'cat'",
    ],
)
def test_a_reader_writes_nothing(grafana: str, statement: str) -> None:
    kind = refused(grafana, statement)
    assert issubclass(
        kind, errors.InsufficientPrivilege | errors.UndefinedFunction | errors.ObjectNotInPrerequisiteState
    )
    assert not issubclass(kind, errors.ReadOnlySqlTransaction)


@pytest.mark.parametrize("role", ["metering_service", "owner", "postgres", "pg_read_all_data"])
def test_a_reader_cannot_become_another_role(grafana: str, role: str) -> None:
    assert refused(grafana, f"SET ROLE {role}") is errors.InsufficientPrivilege
    assert refused(grafana, f"SET SESSION AUTHORIZATION {role}") is errors.InsufficientPrivilege
    assert issubclass(refused(grafana, f"GRANT {role} TO grafana"), psycopg.Error)


def test_a_reader_sees_no_secret_by_way_of_a_view(grafana: str) -> None:
    secret = ("secret", "hash", "password", "parameters", "url", "problem", "tags", "request_key")
    for view, columns in PROMISED.items():
        assert not [name for name in columns.split() if any(word in name for word in secret)], view
    assert refused(grafana, "SELECT rolpassword FROM pg_authid") is errors.InsufficientPrivilege


def test_a_readers_session_is_guarded_against_accidents(grafana: str) -> None:
    with psycopg.connect(grafana) as connection:
        settings = [row[:2] for row in connection.execute("SELECT name, setting FROM pg_settings")]
        found: dict[str, str] = dict(settings)
        with pytest.raises(errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TEMP TABLE mine (a int)")
    assert (found["statement_timeout"], found["default_transaction_read_only"]) == ("60000", "on")
    assert (found["search_path"].strip('"'), found["TimeZone"]) == ("reporting", "UTC")


@pytest.mark.usefixtures("grafana")
def test_a_reader_needs_its_password_which_the_server_never_received(server: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(login(server, "grafana", "guessed"))
    with psycopg.connect(server) as connection:
        row = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'grafana'").fetchone()
    assert row
    assert row[0].startswith("SCRAM-SHA-256$")


def test_a_reader_cannot_take_all_connections(grafana: str) -> None:
    with ExitStack() as opened:
        for _ in range(10):
            opened.enter_context(psycopg.connect(grafana))
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            psycopg.connect(grafana)


def test_readers_are_listed_and_dropped_and_nothing_else_is(server: str, grafana: str) -> None:
    owner = owner_engine(login(server, "owner"))
    assert grafana
    create_reader(owner=owner, name="metabase", by="test", now=NOW)
    with transaction(owner) as connection:
        assert list_readers(connection) == ["grafana", "metabase"]
        drop_reader(connection, name="metabase")
        assert list_readers(connection) == ["grafana"]
        for name in ("owner", "postgres", "metering_service", "metering_reader", "nobody"):
            with pytest.raises(UnknownReaderError):
                drop_reader(connection, name=name)
    with pytest.raises(ReaderExistsError, match="grafana"):
        create_reader(owner=owner, name="grafana", by="test", now=NOW)


@pytest.mark.parametrize("name", ["", "Grafana", "pg_x", "metering_x", "a b", "x" * 64, 'a"; DROP ROLE owner; --'])
def test_a_name_that_is_none_is_refused(server: str, name: str) -> None:
    with pytest.raises(InvalidReaderNameError, match="name: expected"):
        create_reader(owner=owner_engine(login(server, "owner")), name=name, by="test", now=NOW)


def test_without_the_right_to_create_logins_the_error_names_the_statements_for_an_administrator(
    server: str,
) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("ALTER ROLE owner NOCREATEROLE")
        try:
            with pytest.raises(ReaderRefusedError, match='CREATE ROLE "other" LOGIN PASSWORD') as told:
                create_reader(owner=owner_engine(login(server, "owner")), name="other", by="test", now=NOW)
        finally:
            connection.execute("ALTER ROLE owner CREATEROLE")
        assert "SCRAM" not in str(told.value)
        statements = str(told.value).partition("run: ")[2]
        connection.execute(statements.encode())
        connection.execute("DROP ROLE other")


def test_the_page_has_the_statements_that_the_command_runs(server: str) -> None:
    block = next(block for block in re.findall(r"```sql\n(.+?)```", PAGE, re.DOTALL) if "CREATE ROLE" in block)
    with psycopg.connect(server) as connection:
        ours = [statement.as_string(connection) for statement in reader_statements("grafana", "…")]
    assert block.split(";\n")[:-1] == [statement.replace('"', "") for statement in ours]


def test_the_command_prints_a_password_that_works_once(server: str) -> None:
    owner = login(server, "owner")
    command = CommandLine(None, METERING_DATABASE_URL=owner, METERING_REDIS_URL="redis://127.0.0.1:1/0")
    metering = partial(command.run, "reader")
    made = metering("create", "psql_user")
    assert made.returncode == 0, made.stderr
    password = made.stdout.strip()
    psycopg.connect(login(server, "psql_user", password)).close()
    assert password not in made.stderr
    listed = json.loads(metering("list", "--json").stdout)
    assert {"user": "psql_user"} in listed
    again = metering("create", "psql_user")
    assert (again.returncode, again.stdout) == (1, "")
    assert "a login 'psql_user' already exists" in again.stderr
    assert metering("drop", "psql_user").returncode == 0
    as_json = json.loads(metering("create", "psql_user", "--json").stdout)
    assert as_json["user"] == "psql_user"
    assert "owner" not in as_json["database"]
    psycopg.connect(login(as_json["database"], "psql_user", as_json["password"])).close()
    metering("drop", "psql_user")

"""Commands whose PostgreSQL, Valkey or Stripe is away, or dies in the middle: one sentence, and an exit code."""

import re
import subprocess
from contextlib import closing, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import make_url

from metering.db.engine import owner_engine
from metering.db.migrate import migrate
from metering.server.embedded.data_dir import ephemeral_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor
from tests.command_line import TIMEOUT_SECONDS, CommandLine
from tests.database import Database
from tests.database_proxy import proxied
from tests.waiting import eventually

UNAVAILABLE = 75
# One of each group of commands that needs the database.
COMMANDS = [
    ("migrate",),
    ("customers", "list"),
    ("backlog", "list"),
    ("invoices", "run", "--period", "2026-10"),
    ("reconcile",),
    ("export", "charges", "--period", "2026-10"),
    ("rates", "list"),
    ("cancel-policy", "list"),
    ("upstream-price", "list"),
    ("rerate", "--period", "2026-10"),
    ("keys", "list"),
    ("reader", "list"),
    ("alerts", "list"),
    ("webhooks", "list"),
    ("backup", "{folder}/backup"),
    ("audit",),
    ("audit-log", "list"),
]


def in_folder(arguments: tuple[str, ...], folder: Path) -> list[str]:
    return [each.format(folder=folder) for each in arguments]


def is_a_sentence(stderr: str) -> bool:
    """Whether it is one line for people, without words of the libraries that we use."""
    told = re.fullmatch(r"metering: [^\n]+\n", stderr) is not None
    return told and not re.search(r"Traceback|sqlalche|psycopg|consuming input|Error \d|topsecret", stderr)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_a_database_that_is_away_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    metering = CommandLine(
        None,
        METERING_DATABASE_URL="postgresql://u:topsecret@127.0.0.1:1/x",
        METERING_REDIS_URL="redis://127.0.0.1:1",
        STRIPE_API_KEY="sk_test_topsecret",
    )
    ended = metering(*in_folder(arguments, tmp_path), exits=UNAVAILABLE)
    assert ended.stderr == "metering: PostgreSQL cannot be reached: Connection refused (127.0.0.1:1)\n"


def test_a_restore_into_nonsense_is_refused_before_the_backup_is_read(tmp_path: Path) -> None:
    ended = CommandLine(None)("restore", str(tmp_path), "--into", "nonsense://", exits=2)
    assert "expected a URL such as postgresql://" in ended.stderr


@pytest.mark.parametrize(
    ("variable", "url", "says"),
    [
        ("METERING_DATABASE_URL", "postgresql://u:topsecret@nowhere.invalid/x", "failed to resolve host"),
        ("METERING_DATABASE_URL", "postgresql://u:topsecret@127.0.0.1:1/x?mood=good", "invalid connection option"),
        ("METERING_DATABASE_URL", "mysql://u:topsecret@127.0.0.1/x", "expected a URL such as postgresql://"),
        ("METERING_MIGRATION_DATABASE_URL", "topsecret", "expected a URL such as postgresql://"),
        ("METERING_REDIS_URL", "topsecret", "expected a URL such as redis://"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_sentence(variable: str, url: str, says: str) -> None:
    ended = CommandLine(None, **{variable: url}).run("keys", "list")
    assert ended.returncode != 0
    assert is_a_sentence(ended.stderr)
    assert says in ended.stderr


def test_a_database_that_does_not_exist_is_named(database: Database) -> None:
    elsewhere = make_url(database.url).set(database="nowhere").render_as_string(hide_password=False)
    ended = CommandLine(None, METERING_DATABASE_URL=elsewhere)("keys", "list", exits=UNAVAILABLE)
    assert is_a_sentence(ended.stderr)
    assert 'database "nowhere" does not exist' in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        (("migrate",), 12),
        (("customers", "set", "acme", "--name", "Acme"), 3),
        (("invoices", "run", "--period", "2026-10", "--no-push"), 3),
        (("export", "focus", "--period", "2026-10", "--out", "{folder}/focus.csv"), 3),
        (("rates", "set", "house", "m", "input=5"), 3),
        (("rerate", "--period", "2026-10", "--yes"), 3),
        (("keys", "create", "--role", "read"), 3),
        (("reader", "list"), 3),
        (("webhooks", "create", "https://hooks.example.com/m"), 3),
        (("backup", "{folder}/backup"), 50),
        (("audit",), 6),
        (("audit-log", "export", "{folder}/log.csv"), 3),
    ],
    ids=str,
)
def test_wherever_the_database_goes_away_it_is_one_sentence(
    database: Database, tmp_path: Path, arguments: tuple[str, ...], step: int
) -> None:
    endings = set()
    with proxied(database) as (proxy, through):
        metering = CommandLine(through)
        for pieces in range(0, 1_000, step):
            proxy.break_after(pieces)
            ended = metering.run(*in_folder(arguments, tmp_path))
            if ended.returncode == 0:  # done, whatever became of the last goodbye
                break
            assert (ended.returncode, is_a_sentence(ended.stderr)) == (UNAVAILABLE, True), ended.stderr
            assert list(tmp_path.iterdir()) == []
            endings.add(ended.stderr)
    assert ended.returncode == 0, ended.stderr
    assert len(endings) > 1


# What each waits for while the table `customers` is locked.
WAITING = [
    ("customers", "list"),
    ("customers", "set", "acme", "--name", "Acme"),
    ("invoices", "run", "--period", "2026-10", "--no-push"),
    ("export", "charges", "--period", "2026-10"),
    ("audit",),
]
_ARE_WAITING = "SELECT count(*) = %s FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def test_a_postgresql_that_is_killed_in_the_middle_is_one_sentence() -> None:
    with (
        ephemeral_data_dir() as data,
        Supervisor(quiet=True) as supervisor,
        embedded_services(data=data, supervisor=supervisor, valkey=False) as services,
    ):
        engine = owner_engine(services.database_url)
        migrate(engine)
        engine.dispose()
        metering = CommandLine(Database(services.database_url, services.redis_url))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        blocker, watcher = (psycopg.connect(services.database_url, autocommit=True) for _ in range(2))
        with closing(blocker), closing(watcher):
            blocker.execute("BEGIN; LOCK customers")
            running = [metering.start(*arguments, **pipes) for arguments in WAITING]
            assert eventually(lambda: watcher.execute(_ARE_WAITING, [len(WAITING)]).fetchone() == (True,))
            kill_postgres(supervisor)
            for process in running:
                _, told = process.communicate(timeout=TIMEOUT_SECONDS)
                assert (process.returncode, is_a_sentence(told.decode())) == (UNAVAILABLE, True), told.decode()


def kill_postgres(supervisor: Supervisor) -> None:
    pid = supervisor.pid_of("postgres")
    assert pid is not None
    for process in [psutil.Process(pid), *psutil.Process(pid).children()]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_file_that_cannot_be_written_is_one_sentence(rated_database: Database) -> None:
    ended = CommandLine(rated_database)("audit-log", "export", "/proc/log.csv", exits=1)
    assert is_a_sentence(ended.stderr)


def test_doctor_tells_what_is_away_and_goes_on(database: Database) -> None:
    with proxied(database) as (proxy, through):
        metering = CommandLine(through, METERING_REDIS_URL="redis://127.0.0.1:1")
        found = set()
        for pieces in range(12, 60, 4):
            proxy.break_after(pieces)
            rows = {row["what"]: row for row in metering.json("doctor", exits=1)}
            assert rows["queue"]["value"] == "Valkey cannot be used: Connection refused (127.0.0.1:1)"
            found.add(tuple(rows[what]["status"] for what in ("database", "clock", "finalizer", "time zones")))
    assert {("FAILED",) * 4, ("ok",) * 4} <= found

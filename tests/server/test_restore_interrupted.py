"""A restore whose connection dies in the middle leaves nothing, says what to do, and succeeds when run again."""

from pathlib import Path

import psycopg
from sqlalchemy import make_url

from tests.command_line import CommandLine
from tests.database import Database
from tests.database_proxy import proxied

UNAVAILABLE = 75


def tables(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert row is not None
    return int(row[0])


def test_a_restore_that_loses_its_connection_leaves_nothing_and_can_be_run_again(
    backup: Path, source: Database
) -> None:
    empty = make_url(source.url).set(database="interrupted_restore").render_as_string(hide_password=False)
    with psycopg.connect(source.url, autocommit=True) as owner:
        owner.execute("CREATE DATABASE interrupted_restore TEMPLATE template0")
        try:
            with proxied(Database(empty, source.redis_url)) as (proxy, through):
                for pieces in (20, 60, 90, 120):
                    proxy.break_after(pieces)
                    ended = CommandLine(None)("restore", str(backup), "--into", through.url, exits=UNAVAILABLE)
                    assert ended.stderr.count("\n") == 1
                    assert tables(empty) == 0
                assert "during the restore: run it again" in ended.stderr
                proxy.mend()
                CommandLine(None)("restore", str(backup), "--into", through.url)
            assert tables(empty) > 20
        finally:
            owner.execute("DROP DATABASE interrupted_restore WITH (FORCE)")

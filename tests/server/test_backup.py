"""Backups: exact, whole or not there, and never over something else."""

import json
import re
import shutil
import stat
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from metering.audit.run import audit
from metering.core.clock import utc_now
from metering.server.backup.manifest import BackupFailedError
from metering.server.backup.tools import dump_tool
from metering.server.embedded.data_dir import Services
from metering.server.embedded.postgres import client_tool
from tests.command_line import CommandLine
from tests.database import Database
from tests.server.backups import READER, cluster, empty_database, manifest_of
from tests.waiting import eventually

_DIGEST = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM {} AS t"
# Without how far it has logged ahead.
_SEQUENCE = "SELECT 1, last_value || ' ' || is_called FROM {}"


def schema_of(url: str) -> str:
    """The whole schema, with owners and privileges, as pg_dump prints it."""
    command = [str(client_tool("pg_dump")), "--schema-only", "--restrict-key=same", f"--dbname={url}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # In a UNION, PostgreSQL prints the name of a column that has none only from the second reading on.
    return re.sub(r"(::\w+) AS (text|int8|numeric)\b", r"\1", printed)


def contents_of(url: str) -> dict[str, tuple[int, str]]:
    """The number of rows of each table and sequence, and a digest of them whatever their order."""
    found = {}
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        names = connection.execute(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind IN ('r', 'S') AND n.nspname IN ('public', 'reporting')"
        ).fetchall()
        for (name,) in names:
            query = _SEQUENCE if name.endswith("_seq") else _DIGEST
            row = connection.execute(query.format(name).encode()).fetchone()
            assert row is not None
            found[name] = row
    return found


def test_a_restored_database_is_the_same_to_the_last_row_privilege_and_sequence(
    source: Database, backup: Path, services: Services
) -> None:
    with empty_database(services) as restored:
        told = CommandLine(None)("restore", str(backup), "--into", restored.url).stderr
        assert schema_of(restored.url) == schema_of(source.url)
        contents = contents_of(source.url)
        assert contents_of(restored.url) == contents
        assert len(contents) > 50
        assert sum(count for count, _ in contents.values()) > 1_000
        with restored.service() as service:
            report = audit(engine=service.engine, now=utc_now())
        assert (report.differences, report.streams > 100) == ([], True)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (backup, backup / "manifest.json")} == {0}
    taken_at = datetime.fromisoformat(str(manifest_of(backup)["taken_at"]))
    assert taken_at.isoformat(timespec="seconds") in told
    assert "metering-emitter resend --since" in told


def test_a_new_cluster_gets_the_database_and_its_roles(
    source: Database, backup: Path, data: Path, services: Services
) -> None:
    folder = data / "elsewhere"
    CommandLine(None)("restore", str(backup), "--into", str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "postgres"]
    with cluster(folder, services) as running:
        assert schema_of(running.url) == schema_of(source.url)
        assert contents_of(running.url) == contents_of(source.url)
        reader = running.url.replace("postgres@", f"{READER}@")
        with psycopg.connect(reader) as connection:
            query = "SELECT current_setting('statement_timeout'), count(*) > 100 FROM charges"
            assert connection.execute(query).fetchone() == ("1min", True)
        with psycopg.connect(running.url) as connection, psycopg.connect(source.url) as original:
            query = "SELECT rolpassword FROM pg_authid WHERE rolname = %s"
            verifier = connection.execute(query, [READER]).fetchone()
            assert verifier == original.execute(query, [READER]).fetchone()
    ended = CommandLine(None).run("restore", str(backup), "--into", str(folder))
    assert (ended.returncode, "has a database already" in ended.stderr) == (1, True)


def test_nothing_is_restored_over_something(source: Database, backup: Path) -> None:
    before = contents_of(source.url)
    refused = CommandLine(None)("restore", str(backup), "--into", source.url, exits=1).stderr
    assert "is not empty" in refused
    assert "create a new one" in refused
    assert contents_of(source.url) == before


def test_nothing_is_backed_up_over_something(source: Database, backup: Path) -> None:
    assert "exists" in CommandLine(source)("backup", str(backup), exits=1).stderr
    assert manifest_of(backup)


def test_a_backup_that_fails_leaves_nothing_that_looks_like_one(services: Services, tmp_path: Path) -> None:
    with empty_database(services) as database:
        told = CommandLine(database)("backup", str(tmp_path / "b"), exits=1).stderr
        assert "no schema of this service" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "added", "manifest", "rows"])
def test_a_damaged_backup_is_refused_and_the_database_stays_empty(
    backup: Path, services: Services, tmp_path: Path, damage: str
) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(backup, copied)
    largest = max((copied / "dump").iterdir(), key=lambda path: path.stat().st_size)
    if damage == "cut":
        largest.write_bytes(largest.read_bytes()[:-1])
    elif damage == "changed":
        content = bytearray(largest.read_bytes())
        content[-5] ^= 1
        largest.write_bytes(content)
    elif damage == "missing":
        largest.unlink()
    elif damage == "added":
        (copied / "dump/9999.dat").touch()
    elif damage == "manifest":
        (copied / "manifest.json").unlink()
    else:
        manifest = manifest_of(copied)
        manifest["rows"]["public.charges"] -= 1
        (copied / "manifest.json").write_text(json.dumps(manifest))
    with empty_database(services) as database:
        told = CommandLine(None)("restore", str(copied), "--into", database.url, exits=1).stderr
        named = {"manifest": "is no backup", "rows": "table public.charges"}.get(damage, largest.parent.name)
        assert named in told
        with psycopg.connect(database.url) as connection:
            tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables == (0,)


def waits_for_a_lock(services: Services) -> bool:
    with psycopg.connect(services.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
    return row != (0,)


def test_an_ordinary_login_can_restore_and_back_up_what_it_owns(
    backup: Path, services: Services, tmp_path: Path
) -> None:
    with empty_database(services) as database, psycopg.connect(services.database_url, autocommit=True) as admin:
        name = psycopg.conninfo.conninfo_to_dict(database.url)["dbname"]
        admin.execute("CREATE ROLE backup_plain LOGIN; GRANT metering_service TO backup_plain")
        admin.execute(f"ALTER DATABASE {name} OWNER TO backup_plain".encode())
        plain = replace(database, url=database.url.replace("postgres@", "backup_plain@"))
        try:
            CommandLine(None)("restore", str(backup), "--into", plain.url)
            told = CommandLine(plain).json("backup", str(tmp_path / "b"))
            assert told["rows"] == sum(
                count for name, (count, _) in contents_of(plain.url).items() if "_seq" not in name
            )
            [reader] = [role for role in manifest_of(tmp_path / "b")["roles"] if role["name"] == READER]
            assert reader["verifier"] is None, "it may not read it"
        finally:
            admin.execute(f"ALTER DATABASE {name} OWNER TO postgres".encode())
            with psycopg.connect(database.url, autocommit=True) as owner:
                owner.execute("DROP OWNED BY backup_plain CASCADE")
            admin.execute("DROP ROLE backup_plain")


def test_a_restore_that_is_killed_leaves_an_empty_database_and_a_backup_that_is_killed_no_backup(
    source: Database, backup: Path, services: Services, tmp_path: Path
) -> None:
    with empty_database(services) as database:
        with psycopg.connect(database.url) as other:
            other.execute("CREATE SCHEMA reporting")  # uncommitted: the restore waits for it
            with CommandLine(None).start("restore", str(backup), "--into", database.url) as process:
                assert eventually(lambda: waits_for_a_lock(services))
                process.kill()
            other.rollback()
        with psycopg.connect(database.url) as connection:
            tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables == (0,)
        CommandLine(None)("restore", str(backup), "--into", database.url)
    with psycopg.connect(source.url) as lock:
        lock.execute("LOCK TABLE charges IN ACCESS EXCLUSIVE MODE")
        with CommandLine(source).start("backup", str(tmp_path / "b")) as process:
            assert eventually(lambda: any(tmp_path.iterdir()))
            process.kill()
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == ["b.partial"]


def test_what_is_encrypted_for_the_service_is_not_dumped_in_the_clear(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert dump_tool(encrypted=False) == client_tool("pg_dump")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupFailedError, match=r"encrypted.*postgresql-client"):
        dump_tool(encrypted=True)
    (tmp_path / "pg_dump").symlink_to("/bin/true")
    assert dump_tool(encrypted=True) == tmp_path / "pg_dump"

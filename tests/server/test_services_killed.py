"""The embedded servers when something dies: one of them, the start of one, or the process that runs them."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
from redis import Redis
from redis.exceptions import RedisError

from metering.server.embedded import valkey
from metering.server.embedded.data_dir import locked_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import ChildFailedError, Supervisor
from tests.server.processes import started
from tests.waiting import eventually

KEEPER = """
import sys, time
from pathlib import Path
import psycopg
from metering.server.embedded.data_dir import locked_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor
with (
    locked_data_dir(Path(sys.argv[1]), note="test") as data,
    Supervisor(quiet=True) as supervisor,
    embedded_services(data=data, supervisor=supervisor) as services,
):
    with psycopg.connect(services.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    print(services.database_url, services.redis_url, flush=True)
    time.sleep(60)
"""


def test_valkey_that_is_killed_comes_back_empty_at_the_same_place(data: Path) -> None:
    with (
        Supervisor(quiet=True) as supervisor,
        embedded_services(data=data, supervisor=supervisor, postgres=False) as services,
        Redis.from_url(services.redis_url) as redis,
    ):
        redis.set("seen", 1)
        pid = supervisor.pid_of("valkey")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: supervisor.restarts_of("valkey") == 1)
        assert eventually(lambda: answers(services.redis_url))
        assert redis.get("seen") is None
        assert supervisor.restarts_of("valkey") == 1


def answers(redis_url: str) -> bool:
    try:
        with Redis.from_url(redis_url) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def test_no_server_is_left_when_another_does_not_start(initialized: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "get_binary_path", lambda: shutil.which("false"))
    # In this order, as `metering up` nests them: the folder is free, or removed, before the supervisor's own end.
    with Supervisor(quiet=True) as supervisor:
        with (
            pytest.raises(ChildFailedError, match="valkey exited with code 1"),
            locked_data_dir(initialized, note="test"),
            embedded_services(data=initialized, supervisor=supervisor),
        ):
            pass
        assert supervisor.pid_of("postgres") is None
    assert not (initialized / "postgres" / "postmaster.pid").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a process to the life of another")
def test_servers_do_not_outlive_the_process_that_runs_them_and_the_data_is_kept(initialized: Path) -> None:
    with started([sys.executable, "-c", KEEPER, str(initialized)], stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        urls = keeper.stdout.readline().split()
        family = psutil.Process(keeper.pid).children(recursive=True)
        names = {process.name() for process in family}
        keeper.kill()
    assert {"postgres", "valkey-server"} <= names
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    with (
        locked_data_dir(initialized, note="next"),
        Supervisor(quiet=True) as supervisor,
        embedded_services(data=initialized, supervisor=supervisor) as services,
        psycopg.connect(services.database_url) as connection,
    ):
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
        # What a killed process left is taken away first, so that saved connections stay right.
        assert [services.database_url, services.redis_url] == urls
    assert not Path(urls[0].partition("host=")[2]).exists()
    assert not Path(urls[1].removeprefix("unix://")).parent.exists()

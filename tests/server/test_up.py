"""`metering up` as a person runs it: a process, its output, Ctrl-C."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

from metering.server.embedded.data_dir import ephemeral_data_dir, find_running
from tests.database import Database
from tests.server.processes import started
from tests.waiting import eventually

pytestmark = pytest.mark.long

READY = re.compile(r"ready: (http://\S+)/dashboard")
ADMIN_KEY = re.compile(r"^ +(mk_\w+)$", re.MULTILINE)


@dataclass(slots=True)
class Up:
    """A running `metering up`; `output` is all that it said until it was ready."""

    process: subprocess.Popen[str]
    output: str
    url: str

    def part(self, name: str) -> psutil.Process:
        """The process of a part. In the moment in which one becomes another program it has no command line."""
        there = eventually(lambda: bool(self.find(name)), within=5, ignoring=(psutil.Error,))
        assert there, f"no process runs {name}"
        return self.find(name)[0]

    def find(self, name: str) -> list[psutil.Process]:
        """The process of a part, or none."""
        names = (f"metering {name}", f"celery --quiet --app workers.app:app {name}")
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if any(known in " ".join(child.cmdline()) for known in names)]


@contextmanager
def up(*arguments: str, **environment: str) -> Iterator[Up]:
    command = [sys.executable, "-m", "metering", "up", "--port", "0", *arguments]
    with started(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if match := READY.search(line):
                yield Up(process, "".join(lines), match[1])
                break
        else:
            raise AssertionError(f"it did not become ready:\n{''.join(lines)}")
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(timeout=60) == 0


def stop(running: Up) -> float:
    """Ask it to stop, as a person does; all that it started goes by itself. Returns the seconds it took."""
    family = psutil.Process(running.process.pid).children(recursive=True)
    began = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    assert running.process.stdout is not None
    said = running.process.stdout.read()
    assert running.process.wait(timeout=60) == 0
    seconds = time.monotonic() - began
    assert "killing it" not in said
    gone, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    assert gone
    return seconds


@pytest.fixture
def data() -> Iterator[Path]:
    with ephemeral_data_dir() as folder:
        yield folder / "data"


def test_up_greets_with_a_key_once_keeps_data_and_stops_in_time(data: Path) -> None:
    with up("--data", str(data)) as running:
        (key,) = ADMIN_KEY.findall(running.output)
        assert httpx2.get(f"{running.url}/livez", timeout=60).is_success
        assert httpx2.get(f"{running.url}/readyz", timeout=60).json()["status"] == "ready"
        headers = {"authorization": f"Bearer {key}"}
        assert httpx2.put(
            f"{running.url}/v1/customers/acme", json={"name": "A"}, headers=headers, timeout=60
        ).is_success
        second = refused_up("--port", "0", "--data", str(data))
        assert f"process {running.process.pid}, metering up at {running.url}" in second
        assert keys_on(data).returncode == 0
        assert stop(running) < 10
    assert find_running(data) is None
    with up("--data", str(data)) as running:
        assert not ADMIN_KEY.findall(running.output)
        customers = httpx2.get(f"{running.url}/v1/customers", headers=headers, timeout=60).json()["data"]
        assert [customer["name"] for customer in customers] == ["A"]


def keys_on(data: Path) -> subprocess.CompletedProcess[str]:
    """Another command of the same user, told only where the data is."""
    command = [sys.executable, "-m", "metering", "keys", "list", "--json"]
    environment = {**os.environ, "METERING_DATA": str(data)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_secret_is_in_the_environment_of_no_process_that_does_not_need_it() -> None:
    secrets = {
        "METERING_ADMIN_KEY": "mk_ops_the-admins-secret",
        "METERING_GATEWAY_INGEST_KEY": "mk_gw_the-gateways-secret",
        "UPSTREAM_API_KEY": "the-upstreams-secret",
    }
    with up("--ephemeral", **secrets) as running:
        seen = {}
        for child in psutil.Process(running.process.pid).children(recursive=True):
            seen[child.pid] = (" ".join(child.cmdline()), child.environ())
    foreign = ("bin/postgres", "valkey-server", "stripe_local")
    for name in foreign:
        assert [line for line, _ in seen.values() if name in line], name
    for line, environment in seen.values():
        assert not environment.keys() & {"METERING_ADMIN_KEY", "METERING_GATEWAY_INGEST_KEY"}, line
        if any(name in line for name in foreign) or line.startswith("postgres:"):
            given = {name for name in environment if name.startswith(("METERING_", "STRIPE_API", "UPSTREAM_"))}
            assert given == set(), line


def test_killed_parts_come_back_and_an_ephemeral_run_leaves_nothing_behind(data: Path) -> None:
    data.mkdir(mode=0o755)
    with up("--ephemeral", TMPDIR=str(data), METERING_ADMIN_KEY="mk_up_0123456789") as running:
        assert [folder.name for folder in data.glob("*/postgres")] == ["postgres"]
        parts = {name: running.part(name) for name in ("api", "worker", "beat")}
        for part in parts.values():
            part.kill()
        deadline = time.monotonic() + 60
        for name, part in parts.items():
            while not is_back(running, name, part):
                assert time.monotonic() < deadline, name
                time.sleep(0.1)
        sockets = sockets_of(running)
        assert all(folder.is_dir() for folder in sockets)
        stop(running)
    assert not list(data.iterdir())
    assert not [folder for folder in sockets if folder.exists()]


def is_back(running: Up, name: str, killed: psutil.Process) -> bool:
    try:
        back = [found for found in running.find(name) if found.pid != killed.pid]
        return bool(back) and httpx2.get(f"{running.url}/livez", timeout=60).is_success
    except (httpx2.HTTPError, psutil.Error):
        return False


def sockets_of(running: Up) -> list[Path]:
    """The folders of both servers' sockets."""
    commands = [process.cmdline() for process in psutil.Process(running.process.pid).children(recursive=True)]
    said = " ".join(part for command in commands for part in command)
    found = {*re.findall(r"unix_socket_directories=(\S+)", said), *re.findall(r"unixsocket:(\S+)/", said)}
    assert len(found) == 2
    return [Path(folder) for folder in found]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_the_middle_of_the_start_leaves_nothing_behind(data: Path, ending: signal.Signals) -> None:
    data.mkdir(mode=0o755)
    command = [sys.executable, "-m", "metering", "up", "--port", "0", "--ephemeral"]
    environment = {**os.environ, "TMPDIR": str(data)}
    with started(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while not list(data.glob("*/postgres/postmaster.pid")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.send_signal(ending)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert not psutil.wait_procs(family, timeout=60)[1]
    assert not list(data.iterdir())


# A server process of the preparation, whose death ends all connections. It is killed in the middle of a statement.
PREPARING = "metering [local]"
BETWEEN_STATEMENTS = ("idle", "authentication", "startup")
PARTS = ["metering api", "app:app worker", "app:app beat", "valkey-server", "bin/postgres -D", PREPARING]


@pytest.mark.parametrize("victim", PARTS)
def test_a_part_that_is_killed_during_the_start_is_started_again(data: Path, victim: str) -> None:
    data.mkdir(mode=0o755)
    killer = Killer(victim, below=os.getpid(), times=2)
    with killer, up("--ephemeral", TMPDIR=str(data)) as running:
        assert eventually(lambda: killer.killed == 2)
        if victim == PREPARING:
            assert "; trying again" in running.output
        assert eventually(lambda: httpx2.get(f"{running.url}/readyz", timeout=60).is_success)


class Killer(threading.Thread):
    """Kills the first processes below ours that run a command, each as soon as it is seen."""

    def __init__(self, command: str, *, below: int, times: int) -> None:
        super().__init__(daemon=True)
        self._command, self._below, self._times = command, below, times
        self._over = threading.Event()
        self.killed = 0

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        seen: set[int] = set()
        while self.killed < self._times and not self._over.wait(0.005):
            for process in psutil.Process(self._below).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if process.pid not in seen and self._command in " ".join(process.cmdline()):
                        if self._command == PREPARING and not stopped_in_a_statement(process):
                            continue
                        seen.add(process.pid)
                        process.kill()
                        self.killed += 1
                        break


def stopped_in_a_statement(server: psutil.Process) -> bool:
    """Stop a server process of PostgreSQL, whose title says what it is doing; it goes on if that is nothing."""
    server.suspend()
    _, _, doing = " ".join(server.cmdline()).partition(f"{PREPARING} ")
    if doing.startswith(BETWEEN_STATEMENTS) or not doing:
        server.resume()
        return False
    return True


def test_given_servers_are_used_and_no_data_folder_is_made(database: Database, data: Path) -> None:
    given = {"METERING_DATABASE_URL": database.url, "METERING_REDIS_URL": database.redis_url}
    with up("--data", str(data), **given, METERING_ADMIN_KEY="mk_up_0123456789") as running:
        assert httpx2.get(f"{running.url}/readyz", timeout=60).is_success
        names = {child.name() for child in psutil.Process(running.process.pid).children(recursive=True)}
        assert "postgres" not in names
    assert not data.exists()


def test_a_taken_port_is_refused_in_one_line(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused_up("--port", str(port), "--data", str(data))
    assert said.startswith(f"metering: cannot listen on 127.0.0.1:{port}")
    assert not data.exists()


def test_addresses_stay_where_they_were_and_are_printed_as_json(data: Path) -> None:
    """Saved connections of psql and of Stripe's clients go on after a restart."""
    command = [sys.executable, "-m", "metering", "up", "--data", str(data), "--json"]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        stripe_port = probe.getsockname()[1]
    seen = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        environment = {
            **os.environ,
            "METERING_PORT": str(port),
            "METERING_STRIPE_LOCAL_PORT": str(stripe_port),
        }
        with started(
            command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stdout is not None
            printed = ""
            while not printed.endswith("}\n"):
                line = process.stdout.readline()
                assert line, printed
                printed += line
            addresses = json.loads(printed)
            running = find_running(data)
            assert running is not None
            seen.append((addresses["stripe_url"], running.database_url, running.redis_url))
            assert addresses["url"] == f"http://127.0.0.1:{port}"
            assert (addresses["admin_key"] is None) == (len(seen) == 2)
            taken = refused_up("--port", str(port), "--data", str(data))
            assert f"metering up at {addresses['url']}" in taken
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
    assert seen[0] == seen[1]
    assert seen[0][0] == f"http://127.0.0.1:{stripe_port}"
    assert str(data) in seen[0][1]


def test_what_parts_say_while_they_start_is_not_shown(data: Path) -> None:
    with up("--data", str(data)) as running:
        assert "starting up" not in running.output
        assert "Uvicorn" not in running.output
        assert "PostgreSQL and Valkey …" in running.output


def refused_up(*arguments: str) -> str:
    """The one line in which a start is refused."""
    command = [sys.executable, "-m", "metering", "up", *arguments]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    return refused.stderr

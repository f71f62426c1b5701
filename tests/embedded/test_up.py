"""`metering up` as a person runs it: a process, its output, Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

from metering.embedded.data_dir import ephemeral_data_dir
from tests.conftest import Database

READY = re.compile(r"ready: (http://\S+)")
ADMIN_KEY = re.compile(r"^ +(mk_\w+)$", re.MULTILINE)


@dataclass(slots=True)
class Up:
    """A running `metering up`; `output` is all that it said until it was ready."""

    process: subprocess.Popen[str]
    output: str
    url: str

    def part(self, name: str) -> psutil.Process:
        """The process of a part."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            command = " ".join(child.cmdline())
            if f"metering {name}" in command or f"celery --quiet --app workers.app:app {name}" in command:
                return child
        raise AssertionError(f"no process runs {name}")


@contextmanager
def up(*arguments: str, **environment: str) -> Iterator[Up]:
    command = [sys.executable, "-m", "metering", "up", "--port", "0", *arguments]
    with subprocess.Popen(
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
        assert process.wait(timeout=15) == 0


def stop_and_time(running: Up) -> float:
    family = psutil.Process(running.process.pid).children(recursive=True)
    began = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    assert running.process.stdout is not None
    running.process.stdout.read()
    assert running.process.wait(timeout=15) == 0
    stopped_after = time.monotonic() - began
    gone, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert gone
    return stopped_after


@pytest.fixture
def data() -> Iterator[Path]:
    with ephemeral_data_dir() as folder:
        yield folder / "data"


def test_up_greets_with_a_key_once_keeps_data_and_stops_in_time(data: Path) -> None:
    with up("--data", str(data)) as running:
        (key,) = ADMIN_KEY.findall(running.output)
        assert httpx2.get(f"{running.url}/readyz").json()["status"] == "ready"
        headers = {"authorization": f"Bearer {key}"}
        assert httpx2.put(f"{running.url}/v1/customers/acme", json={"name": "A"}, headers=headers).is_success
        second = subprocess.run(
            [sys.executable, "-m", "metering", "up", "--port", "0", "--data", str(data)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert second.returncode == 1
        assert f"process {running.process.pid}, metering up at {running.url}" in second.stderr
        assert "Traceback" not in second.stderr
        assert keys_on(data).returncode == 0
        assert stop_and_time(running) < 10
    assert "no `metering up` runs on" in keys_on(data).stderr
    with up("--data", str(data)) as running:
        assert not ADMIN_KEY.findall(running.output)
        customers = httpx2.get(f"{running.url}/v1/customers", headers=headers).json()["data"]
        assert [customer["name"] for customer in customers] == ["A"]


def keys_on(data: Path) -> subprocess.CompletedProcess[str]:
    """Another command of the same user, told only where the data is."""
    command = [sys.executable, "-m", "metering", "keys", "list", "--json"]
    environment = {**os.environ, "METERING_DATA": str(data)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


def test_a_part_that_is_killed_comes_back() -> None:
    with up("--ephemeral", METERING_ADMIN_KEY="mk_up_0123456789") as running:
        for name in ("api", "worker", "beat"):
            part = running.part(name)
            part.kill()
            deadline = time.monotonic() + 20
            while True:
                try:
                    assert running.part(name).pid != part.pid
                    assert httpx2.get(f"{running.url}/livez").is_success
                    break
                except (AssertionError, httpx2.HTTPError, psutil.NoSuchProcess):
                    assert time.monotonic() < deadline
                    time.sleep(0.1)


def test_given_servers_are_used_and_no_data_folder_is_made(database: Database, data: Path) -> None:
    given = {"METERING_DATABASE_URL": database.url, "METERING_REDIS_URL": database.redis_url}
    with up("--data", str(data), **given, METERING_ADMIN_KEY="mk_up_0123456789") as running:
        assert httpx2.get(f"{running.url}/readyz").is_success
        names = {child.name() for child in psutil.Process(running.process.pid).children(recursive=True)}
        assert "postgres" not in names
    assert not data.exists()


def test_a_taken_port_is_refused_in_one_line(data: Path) -> None:
    with up("--ephemeral") as running:
        port = running.url.rpartition(":")[2]
        refused = subprocess.run(
            [sys.executable, "-m", "metering", "up", "--port", port, "--data", str(data)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"metering: 127.0.0.1:{port} cannot be listened on")
    assert refused.stderr.count("\n") == 1

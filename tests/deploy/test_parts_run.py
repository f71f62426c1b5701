"""The commands, environments and health checks of compose.yaml, as processes on a fresh PostgreSQL and Valkey.

They can import only what the image has: the tests' own tools would hide that a package is missing there.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import psycopg
import pytest

from metering.server.embedded.data_dir import ephemeral_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor
from tests.deploy.files import DEPLOY, DOCKERFILE, PARTS, canonical, image_packages, interpolated
from tests.running_api import http_client
from tests.waiting import eventually

pytestmark = pytest.mark.long

RUNNING = [name for name in PARTS if name != "migrate"]
ADMIN_KEY = "mk_deploy_0123456789"
SECRETS = {
    "POSTGRES_PASSWORD": "owner",
    "METERING_SERVICE_PASSWORD": "service",
    "METERING_ADMIN_KEY": ADMIN_KEY,
    "METERING_GATEWAY_INGEST_KEY": "mk_gateway_9876543210",
    "UPSTREAM_API_KEY": "none",
}
# uvicorn sends itself the signal again when it is done, so only its last line tells that it was heeded.
ENDS = {
    "api": (-signal.SIGTERM, "Finished server process"),
    "worker": (0, "Warm shutdown"),
    "beat": (0, ""),
    "gateway": (-signal.SIGTERM, "Finished server process"),
}
MAX_STOP_SECONDS = 8.0
# Python runs this file at its start when it is on PYTHONPATH.
SITE_CUSTOMIZE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"the image has no module {{name}}", name=name)
sys.meta_path.insert(0, Absent())
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """This machine instead of compose's network: what its hosts, ports and folders become here."""

    api_url: str
    moves: dict[str, str]
    logs: Path
    image_only: Path

    def here(self, text: str) -> str:
        # In one pass: a port or folder of this machine may itself look like one of compose's.
        return re.sub("|".join(map(re.escape, self.moves)), lambda found: self.moves[found[0]], text)

    def argv(self, command: list[str]) -> list[str]:
        programs = {"metering": str(Path(sys.executable).with_name("metering")), "python": sys.executable}
        program, *arguments = command
        return [programs[program], *map(self.here, arguments)]

    def environment(self, part: str) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}
        given = PARTS[part]["environment"]
        swapped = {name: self.here(interpolated(value, SECRETS)) for name, value in given.items()}
        return {**ours, **swapped, "PYTHONPATH": str(self.image_only)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    api_port, gateway_port = free_ports(2)
    spool, logs = tmp_path_factory.mktemp("spool"), tmp_path_factory.mktemp("logs")
    image_only = tmp_path_factory.mktemp("site")
    (image_only / "sitecustomize.py").write_text(SITE_CUSTOMIZE.format(absent=modules_absent_from_the_image()))
    with (
        ephemeral_data_dir() as data,
        Supervisor(quiet=True) as supervisor,
        embedded_services(data=data, supervisor=supervisor) as servers,
    ):
        moves = {
            "@postgres/metering": "@" + servers.database_url.partition("@")[2],
            "redis://valkey:6379/0": servers.redis_url,
            "http://api:8000": f"http://127.0.0.1:{api_port}",
            "0.0.0.0": "127.0.0.1",
            "8000": str(api_port),
            "8080": str(gateway_port),
            "/etc/metering/gateway.toml": str(DEPLOY / "gateway.toml"),
            "/spool": str(spool),
        }
        initialize_as_the_image_does(servers.database_url)
        yield Place(api_url=f"http://127.0.0.1:{api_port}", moves=moves, logs=logs, image_only=image_only)


def modules_absent_from_the_image() -> set[str]:
    here = packages_distributions()
    present = {*image_packages(), "stream-metering"}
    absent = {module for module, packages in here.items() if not present & set(map(canonical, packages))}
    assert {"pytest", "openai"} <= absent
    return absent


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def initialize_as_the_image_does(url: str) -> None:
    """The owner that the postgres image makes, then postgres-init.sql, whose two lines for psql are filled in."""
    script = (DEPLOY / "postgres-init.sql").read_text().replace(":'service_password'", "'service'")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE metering SUPERUSER LOGIN")
        connection.execute(re.sub(r"^\\getenv .*", "", script, flags=re.MULTILINE).encode())


def command_of(part: str) -> list[str]:
    entrypoint = re.search(r"^ENTRYPOINT (.+)", DOCKERFILE, re.MULTILINE)
    assert entrypoint
    return [*json.loads(entrypoint[1]), *PARTS[part]["command"]]


def run_to_its_end(place: Place, part: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        place.argv(command_of(part)),
        env=place.environment(part),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def started(place: Place, part: str) -> Iterator[subprocess.Popen[bytes]]:
    with (place.logs / part).open("wb") as log:
        process = subprocess.Popen(
            place.argv(command_of(part)), env=place.environment(part), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def is_healthy(place: Place, part: str) -> bool:
    kind, *command = PARTS[part]["healthcheck"]["test"]
    assert kind == "CMD"
    checked = subprocess.run(
        place.argv(command), env=place.environment(part), capture_output=True, check=False, timeout=60
    )
    return checked.returncode == 0


def cloud_event(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": kind,
        "source": "/gateways/deploy",
        "id": f"01J9:{kind}",
        "subject": "acme",
        "time": "2026-11-23T15:00:00Z",
        "data": {"stream_id": "01J9", **data},
    }


EVENTS = [
    cloud_event("stream-start", {"provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812}),
    cloud_event("token-delivered", {"seq": 9, "output_tokens": 30}),
    cloud_event(
        "stream-end",
        {
            "outcome": "cancelled",
            "usage": {"input_tokens": 812, "output_tokens": 37},
            "usage_source": "gateway_count",
        },
    ),
]


def test_a_part_that_comes_before_the_migration_fails_and_says_what_to_do(place: Place) -> None:
    refused = run_to_its_end(place, "worker")
    assert refused.returncode == 1
    assert "run `metering migrate`" in refused.stderr
    assert not is_healthy(place, "worker")


@pytest.fixture(scope="module")
def migrated(place: Place) -> Place:
    done = run_to_its_end(place, "migrate")
    assert done.returncode == 0, done.stderr
    return place


def stop(processes: dict[str, subprocess.Popen[bytes]]) -> dict[str, int]:
    """Ask all to stop, as compose does, and return their exit codes."""
    for process in processes.values():
        process.terminate()
    deadline = time.monotonic() + MAX_STOP_SECONDS
    return {part: process.wait(timeout=deadline - time.monotonic()) for part, process in processes.items()}


def test_the_parts_bill_a_stream_and_stop_when_asked(migrated: Place) -> None:
    logs = {part: migrated.logs / part for part in RUNNING}
    with ExitStack() as stack:
        processes = {part: stack.enter_context(started(migrated, part)) for part in RUNNING}
        with ThreadPoolExecutor() as threads:
            healthy = threads.map(
                lambda part: eventually(
                    lambda: is_healthy(migrated, part), within=240, ignoring=(subprocess.TimeoutExpired,)
                ),
                RUNNING,
            )
            assert dict(zip(RUNNING, healthy, strict=True)) == dict.fromkeys(RUNNING, True)
        for part, process in processes.items():
            assert process.poll() is None, logs[part].read_text()
        with http_client(migrated.api_url, headers={"authorization": f"Bearer {ADMIN_KEY}"}) as client:
            assert client.post("/v1/events", json=EVENTS).json() == {"accepted": len(EVENTS), "rejected": []}
            stream = "/v1/streams/acme/01J9"
            assert eventually(lambda: client.get(stream).json()["state"] == "finalized"), logs[
                "worker"
            ].read_text()
            assert client.get(stream).json()["cost_usd_cents"] == "0.4985"
        # Beat's health is that of what it needs: it may still be on its way when the others have done their work.
        for part in ("worker", "beat"):
            assert eventually(lambda part=part: f"{part} is running" in logs[part].read_text()), part
        codes = stop(processes)
    for part, (code, last_words) in ENDS.items():
        assert codes[part] == code, logs[part].read_text()
        assert last_words in logs[part].read_text()


def test_migrating_again_changes_nothing_and_succeeds(migrated: Place) -> None:
    again = run_to_its_end(migrated, "migrate")
    assert again.returncode == 0, again.stderr
    assert "imported" not in again.stdout + again.stderr


@pytest.mark.parametrize(
    "forbidden", ["UPDATE charges SET booked_at = now()", "DELETE FROM journal", "DROP TABLE charges"]
)
def test_the_login_of_the_running_parts_may_not_change_facts(migrated: Place, forbidden: str) -> None:
    url = migrated.environment("api")["METERING_DATABASE_URL"]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) >= 0 FROM charges").fetchone() == (True,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(forbidden.encode())

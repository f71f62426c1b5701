"""deploy/: every file is what its tool accepts, and the very commands in it run as separate processes."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from metering.config import Settings
from metering.embedded.supervisor import ChildSpec, Supervisor
from tests.conftest import Database

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PARTS = {name: part for name, part in SERVICES.items() if "build" in part}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
EVENTS = [
    ("stream-start", {"provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812}),
    (
        "stream-end",
        {
            "outcome": "cancelled",
            "usage": {"input_tokens": 812, "output_tokens": 37},
            "usage_source": "gateway_count",
        },
    ),
]


def test_every_part_runs_without_root_and_without_capabilities() -> None:
    assert set(PARTS) == {"migrate", "api", "worker", "beat", "gateway"}
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^USER [1-9]\d+", dockerfile, re.MULTILINE)
    for part in PARTS.values():
        assert part["cap_drop"] == ["ALL"]
        assert part["read_only"]


def test_compose_is_valid_by_the_compose_specification() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    command = [tool, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stdout


def test_what_compose_refers_to_is_there() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists()
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    offered = set(re.findall(r"^(\w+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    assert asked == offered


def test_every_setting_in_compose_is_one_that_the_part_reads() -> None:
    known = {f"METERING_{name.upper()}" for name in Settings.model_fields}
    gateway_source = (DEPLOY.parent / "metering/gateway/settings.py").read_text()
    for name, part in PARTS.items():
        for variable in part["environment"]:
            if variable.startswith("METERING_GATEWAY_"):
                assert f'"{variable.removeprefix("METERING_GATEWAY_")}"' in gateway_source or (
                    f"{{PREFIX}}{variable.removeprefix('METERING_GATEWAY_')}" in gateway_source
                )
            elif variable.startswith("METERING_"):
                assert variable in known, (name, variable)


def test_the_image_is_built_from_files_that_exist_and_locked_packages() -> None:
    root = DEPLOY.parent
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (root / source).exists()
                assert f"!{source}" in ignored
    locked = set(re.findall(r"^([\w.-]+)==", (DEPLOY / "requirements.lock").read_text(), re.MULTILINE))
    everything = (root / "requirements.lock").read_text()
    assert {"fastapi", "celery", "psycopg", "bpe-openai"} <= locked
    assert not {"pytest", "mypy", "ruff", "openai", "hypothesis"} & locked
    for line in re.findall(r"^[\w.-]+==\S+", (DEPLOY / "requirements.lock").read_text(), re.MULTILINE):
        assert line in everything


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    for unit in [*UNITS, DEPLOY / "systemd" / "metering.target"]:
        # The command is not installed here; everything else of the unit is looked at as it is.
        adapted = unit.read_text().replace("/opt/metering/bin/metering", sys.executable)
        (tmp_path / unit.name).write_text(adapted)
    command = ["systemd-analyze", "verify", *(str(path) for path in sorted(tmp_path.iterdir()))]
    verified = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    ours = [line for line in verified.stderr.splitlines() if "metering" in line]
    assert not ours
    assert verified.returncode == 0, verified.stderr


def test_units_and_compose_run_the_same_commands() -> None:
    in_units = {re.search(r"^ExecStart=\S+ (\w+)", unit.read_text(), re.MULTILINE)[1] for unit in UNITS}  # type: ignore[index]
    assert in_units == {part["command"][0] for part in PARTS.values()}


def eventually(condition: Callable[[], bool], *, within: float = 20) -> bool:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=2).is_success
    except httpx2.HTTPError:
        return False


def argv_of(part: str, port: int) -> list[str]:
    """The part's own command; only where it listens is changed."""
    moved = {"0.0.0.0": "127.0.0.1", "8000": str(port)}
    return [sys.executable, "-m", "metering", *(moved.get(word, word) for word in PARTS[part]["command"])]


def test_the_commands_of_compose_run_as_separate_processes(database: Database, tmp_path: Path) -> None:
    port, gateway_port = 18_700 + os.getpid() % 500, 19_300 + os.getpid() % 500
    api_url, key = f"http://127.0.0.1:{port}", "mk_deploy_0123456789"
    environment = {
        "METERING_DATABASE_URL": database.url,
        "METERING_REDIS_URL": database.redis_url,
        "METERING_ADMIN_KEY": key,
        "METERING_GATEWAY_URL": api_url,
        "METERING_GATEWAY_INGEST_KEY": key,
        "METERING_GATEWAY_CONFIG": str(DEPLOY / "gateway.toml"),
        "METERING_GATEWAY_SPOOL": str(tmp_path),
        "METERING_GATEWAY_PORT": str(gateway_port),
        "UPSTREAM_API_KEY": "none",
    }
    migrated = subprocess.run(
        argv_of("migrate", port), env={**os.environ, **environment}, capture_output=True, check=False, timeout=60
    )
    assert migrated.returncode == 0, migrated.stderr

    def child(part: str, url: str | None = None) -> ChildSpec:
        ready = (lambda: answers(url)) if url else None
        return ChildSpec(name=part, argv=argv_of(part, port), env=environment, ready=ready)

    with Supervisor(quiet=True) as supervisor:
        supervisor.start([child("api", f"{api_url}/readyz"), child("worker"), child("beat")])
        supervisor.start([child("gateway", f"http://127.0.0.1:{gateway_port}/livez")])
        with httpx2.Client(base_url=api_url, headers={"authorization": f"Bearer {key}"}) as client:
            assert client.post("/v1/events", json=[cloud_event(*event) for event in EVENTS]).is_success
            stream = "/v1/streams/acme/01J9"
            assert eventually(lambda: client.get(stream).json()["state"] == "finalized")
            assert client.get(stream).json()["cost_usd_cents"] == "0.4985"
        began = time.monotonic()
        supervisor.stop()
        assert time.monotonic() - began < 10
        assert not any(supervisor.restarts_of(part) for part in ("api", "worker", "beat", "gateway"))


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

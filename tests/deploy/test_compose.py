"""compose.yaml: valid, complete in itself, contained, and in the words of the commands and settings that exist."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from metering.cli.main import app
from metering.gateway.settings import settings_from_environment
from metering.server.settings import Settings, variable_of
from tests.deploy.files import (
    COMPOSE,
    DEPLOY,
    PARTS,
    SERVICES,
    Recording,
    example_environment,
    interpolated,
    seconds,
)
from tests.tools import need

COMPOSE_FILE = DEPLOY / "compose.yaml"
ENV_EXAMPLE = example_environment(".env.example")
FILLED_IN = {name: value or "filled" for name, value in ENV_EXAMPLE.items()}


def environment_of(part: str) -> dict[str, str]:
    return {name: interpolated(value, FILLED_IN) for name, value in PARTS[part]["environment"].items()}


def test_it_is_valid_by_the_compose_specification() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    command = [tool, "--builtin-schema", "vendor.compose-spec", COMPOSE_FILE]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert checked.returncode == 0, checked.stdout


def test_docker_compose_accepts_it() -> None:
    need("docker compose")
    command = ["docker", "compose", "--file", str(COMPOSE_FILE), "config", "--quiet"]
    checked = subprocess.run(
        command, env={**os.environ, **FILLED_IN}, capture_output=True, text=True, check=False, timeout=60
    )
    assert checked.returncode == 0, checked.stderr


def test_it_runs_every_part_once_and_waits_for_the_migration() -> None:
    assert set(PARTS) == {"migrate", "api", "worker", "beat", "gateway"}
    for name in ("api", "worker", "beat"):
        assert PARTS[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert PARTS["migrate"]["restart"] == "no"
    assert PARTS["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_runs_a_command_that_exists_with_options_that_it_takes(name: str) -> None:
    commands: Any = typer.main.get_command(app)
    command, *arguments = PARTS[name]["command"]
    commands.commands[command].make_context(command, arguments)


@pytest.mark.parametrize("name", [name for name in PARTS if name != "gateway"])
def test_a_part_is_given_only_settings_that_it_reads(name: str) -> None:
    known = set(map(variable_of, Settings.model_fields))
    assert environment_of(name).keys() <= known


def test_the_gateway_is_given_only_settings_that_it_reads_and_its_example_file_is_good() -> None:
    given = environment_of("gateway")
    mounts = dict(volume.split(":")[1::-1] for volume in PARTS["gateway"]["volumes"])
    example = mounts[given["METERING_GATEWAY_CONFIG"]]
    environment = Recording({**given, "METERING_GATEWAY_CONFIG": str(DEPLOY / example)})
    settings_from_environment(environment=environment)
    assert given.keys() <= environment.asked


def test_everything_that_it_refers_to_is_there() -> None:
    for service in SERVICES.values():
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        for dependency, condition in service.get("depends_on", {}).items():
            assert condition["condition"] != "service_healthy" or "healthcheck" in SERVICES[dependency]
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).is_file()


def test_the_example_environment_has_exactly_what_is_asked_for() -> None:
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE_FILE.read_text()))
    assert asked == set(ENV_EXAMPLE)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_root_no_capabilities_and_no_disk_but_its_volumes(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "cap_add" not in service
    assert "privileged" not in service


def test_only_this_machine_reaches_the_ports_and_what_needs_no_database_is_kept_from_it() -> None:
    published = {name: port for name, service in SERVICES.items() for port in service.get("ports", [])}
    assert set(published) == {"api", "gateway", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in published.values())
    apart = [name for name, service in SERVICES.items() if "store" not in service["networks"]]
    assert apart == ["gateway", "prometheus"]


def test_what_watches_runs_only_when_it_is_asked_for() -> None:
    optional = {name for name, service in SERVICES.items() if "profiles" in service}
    assert optional == {"prometheus", "grafana"}
    for service in SERVICES.values():
        assert not optional & set(service.get("depends_on", {})) or "profiles" in service


def test_only_the_migration_logs_in_as_the_owner() -> None:
    owner_password = {**FILLED_IN, "POSTGRES_PASSWORD": "the-owners"}
    trusted = {
        name
        for name, part in PARTS.items()
        if any("the-owners" in interpolated(value, owner_password) for value in part["environment"].values())
    }
    assert trusted == {"migrate"}


# Which part may know which secret; a secret that is not here fails as well.
KNOWN_TO = {
    "POSTGRES_PASSWORD": {"migrate"},
    "METERING_SERVICE_PASSWORD": {"migrate", "api", "worker", "beat"},
    "METERING_ADMIN_KEY": {"migrate"},
    "METERING_GATEWAY_INGEST_KEY": {"migrate", "gateway"},
    "UPSTREAM_API_KEY": {"gateway"},
    "STRIPE_API_KEY": {"worker"},
    "STRIPE_WEBHOOK_SECRET": {"api"},
    "METERING_READER_PASSWORD": set(),
    "GRAFANA_ADMIN_PASSWORD": set(),
}


def test_each_part_knows_only_the_secrets_that_it_needs() -> None:
    secrets = {name for name in ENV_EXAMPLE if re.search("KEY|PASSWORD|SECRET", name)}
    told = {name: f"the-value-of-{name}" for name in secrets}
    given = {
        part: " ".join(interpolated(value, {**FILLED_IN, **told}) for value in service["environment"].values())
        for part, service in PARTS.items()
    }
    assert {secret: {part for part in given if told[secret] in given[part]} for secret in secrets} == KNOWN_TO


def test_whatever_keeps_running_has_a_healthcheck_and_the_gateway_has_time_to_finish_its_streams() -> None:
    assert [name for name, service in SERVICES.items() if "healthcheck" not in service] == ["migrate"]
    assert seconds(PARTS["gateway"]["stop_grace_period"]) >= 40

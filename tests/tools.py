"""Programs that some tests need and a machine may lack. What is left out is said once, at the end of a run."""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.inlets import litellm_environment

MISSING = "missing tool: "


@dataclass(frozen=True, slots=True)
class Tool:
    """A program, how to get it, and whether `.ci/run` does so; in CI such a one may not be missing."""

    install: str
    is_there: Callable[[], bool]
    in_ci: bool = True


def _on_path(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


def _docker_compose() -> bool:
    docker = shutil.which("docker")
    return (
        docker is not None
        and not subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode
    )


def openai_module() -> Path:
    """Where the entry of Node's openai package is, or would be."""
    return Path(os.environ.get("METERING_NODE_MODULES") or ".") / "openai" / "index.mjs"


TYPESCRIPT = Path(__file__).parents[1] / "deploy/clients/typescript"


# The first commit whose code may run on a newer schema; set it to the last release at each release.
PREVIOUS_RELEASE = "6b051c8549124ab3c898caded63d472fbfe8e3e0"


def _has_history() -> bool:
    """Whether this copy of the repository has the code of the previous release."""
    asked = ["git", "-C", str(Path(__file__).parent), "cat-file", "-e", f"{PREVIOUS_RELEASE}^{{commit}}"]
    return (
        shutil.which("git") is not None and not subprocess.run(asked, capture_output=True, check=False).returncode
    )


TOOLS = {
    "chromium": Tool("apt-get install chromium", _on_path("chromium")),
    "curl": Tool("apt-get install curl", _on_path("curl"), in_ci=False),
    "docker compose": Tool("install Docker with its compose plugin", _docker_compose, in_ci=False),
    "git history": Tool("clone the repository whole: git fetch --unshallow", _has_history, in_ci=False),
    "helm": Tool("install Helm 3.15 or newer: https://helm.sh/docs/intro/install", _on_path("helm")),
    "litellm proxy": Tool("make test-litellm", litellm_environment.is_complete, in_ci=False),
    "node with openai": Tool(
        "npm install openai, and set METERING_NODE_MODULES to the folder node_modules",
        lambda: shutil.which("node") is not None and openai_module().is_file(),
        in_ci=False,
    ),
    "openssl": Tool("apt-get install openssl", _on_path("openssl")),
    "node with typescript": Tool(
        "npm ci in deploy/clients/typescript",
        lambda: (
            shutil.which("node") is not None
            and shutil.which("npm") is not None
            and (TYPESCRIPT / "node_modules/typescript/bin/tsc").is_file()
        ),
        in_ci=False,
    ),
    "promtool": Tool("apt-get install prometheus", _on_path("promtool")),
    "systemd-analyze": Tool("apt-get install systemd", _on_path("systemd-analyze")),
}


def need(name: str) -> None:
    """Leave the test out where the tool is missing."""
    tool = TOOLS[name]
    if tool.is_there():
        return
    reason = f"{MISSING}{name} ({tool.install})"
    if tool.in_ci and os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def left_out(reasons: Iterable[str]) -> str | None:
    """One line about the tests that were skipped because a tool is missing; None when none was."""
    counted = Counter(reason.partition(MISSING)[2] for reason in reasons if MISSING in reason)
    if not counted:
        return None
    return "left out: " + "; ".join(f"{count} x {tool}" for tool, count in sorted(counted.items()))

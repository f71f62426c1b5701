"""A page of docs/ that a test follows: its examples by section, run in a shell with other addresses."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server.processes import started

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Page:
    """A page; `replaced` takes the place of what stands on it, and commands run in `folder` with `environment`."""

    name: str
    replaced: Mapping[str, str]
    environment: Mapping[str, str]
    folder: Path

    def examples(self, section: str, language: str = "sh") -> list[str]:
        """The examples of a section in a language, as they run here."""
        text = (DOCS / self.name).read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
        found = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
        assert found, f"{section} has no example in {language}"
        return [self._here(each) for each in found]

    def run(self, code: str, *, exits: int = 0, **variables: str) -> str:
        """What a shell prints on stdout that runs this code, and has to exit with this code."""
        done = subprocess.run(
            ["sh", "-e", "-c", code],
            cwd=self.folder,
            env={**self._variables(), **variables},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == exits, code + done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, code: str) -> Iterator[None]:
        """Run code whose last command ends only when it is stopped; the shell becomes that command."""
        *before, last = code.rstrip("\n").split("\n")
        command = ["sh", "-e", "-c", "\n".join([*before, f"exec {last}"])]
        with started(command, cwd=self.folder, env=self._variables()) as process:
            yield
            process.send_signal(signal.SIGINT)
            process.wait(timeout=_TIMEOUT_SECONDS)

    def _here(self, code: str) -> str:
        own = {".venv/bin/metering": f"{sys.executable} -m metering", ".venv/bin/python": sys.executable}
        here = {**own, **self.replaced}
        return re.sub("|".join(map(re.escape, here)), lambda found: here[found[0]], code)

    def _variables(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **self.environment}


@contextmanager
def running_up(data: Path, **environment: str) -> Iterator[dict[str, Any]]:
    """`metering up` as a process of its own, on free ports; yields what it prints with `--json`."""
    command = [sys.executable, "-m", "metering", "up", "--port", "0", "--data", str(data), "--json"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "METERING_STRIPE_LOCAL_PORT": "0", **environment}
    with started(command, env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        printed = ""
        while not printed.endswith("}\n"):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        try:
            yield json.loads(printed)
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            process.wait(timeout=_TIMEOUT_SECONDS)

"""The package of deploy/clients/typescript, built once, and programs that use it in processes of their own."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.tools import TYPESCRIPT

# What every program starts with. `say` tells the test, one JSON value a line.
_PRELUDE = """
import { Emitter, StreamStart } from "stream-metering-emitter";
const say = (value) => console.log(JSON.stringify(value));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const emitter = new Emitter({
  url: process.env.METERING_URL, key: process.env.METERING_INGEST_KEY, source: "/gateways/node",
  spool: process.env.SPOOL, log: (level, message) => console.error(message),
});
const asked = { customerId: "acme", provider: "anthropic", model: "claude-opus-4.7", inputTokens: 812 };
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A running program."""

    child: "subprocess.Popen[str]"

    def hear(self) -> Any:
        """The next value that it says."""
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line, f"it has ended: {self.finish()}"
        return json.loads(line)

    def finish(self) -> str:
        """Wait for its end; gives what it logged."""
        _, errors = self.child.communicate(timeout=60)
        return errors


@dataclass(frozen=True, slots=True)
class Package:
    """A built copy of the package, outside of the checkout."""

    folder: Path
    _numbers: "count[int]"

    def program(self, source: str, *, prelude: str = _PRELUDE) -> Path:
        """A program within the package, so that it finds the package by its name."""
        path = self.folder / f"program{next(self._numbers)}.mjs"
        path.write_text(prelude + source)
        return path

    @contextmanager
    def running(self, source: str, *, prelude: str = _PRELUDE, **env: str) -> Iterator[Process]:
        """A process that runs the program; it is killed at the end of the block."""
        child = subprocess.Popen(
            ["node", str(self.program(source, prelude=prelude))],
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield Process(child)
        finally:
            child.kill()
            child.communicate(timeout=60)

    def npm(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run an npm command in the package."""
        return subprocess.run(
            ["npm", *command], cwd=self.folder, capture_output=True, text=True, timeout=300, check=False
        )


def build(folder: Path) -> Package:
    """Build the package in the folder, with what is installed in the checkout."""
    ignored = shutil.ignore_patterns("node_modules", "dist")
    shutil.copytree(TYPESCRIPT, folder, dirs_exist_ok=True, ignore=ignored)
    (folder / "node_modules").symlink_to(TYPESCRIPT / "node_modules")
    package = Package(folder, count(1))
    built = package.npm("run", "build")
    assert built.returncode == 0, built.stdout + built.stderr
    return package

"""`metering` as a person or a script runs it: in this process, which is fast, or in one of its own."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import pytest

from metering.cli.main import main
from tests.database import Database

# A machine that is busy with something else may be slow.
TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command came to."""

    returncode: int
    output: bytes
    errors: bytes

    @property
    def stdout(self) -> str:
        return self.output.decode()

    @property
    def stderr(self) -> str:
        return self.errors.decode()


class CommandLine:
    """`metering` with settings of its own."""

    def __init__(self, database: Database | None, **settings: str) -> None:
        given = {}
        if database is not None:
            given = {"METERING_DATABASE_URL": database.url, "METERING_REDIS_URL": database.redis_url}
        self.settings = {"COLUMNS": "200", **given, **settings}

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that runs it."""
        return {**os.environ, **self.settings}

    def run(self, *arguments: str) -> Ended:
        """Run a command in this process, as its entry point does."""
        out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.settings.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["metering", *arguments])
            code = 0
            try:
                main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        written = []
        for stream in (out, err):
            stream.flush()
            written.append(stream.buffer.getvalue())  # type: ignore[attr-defined]
        return Ended(code, *written)

    def __call__(self, *arguments: str, exits: int = 0) -> Ended:
        """Run a command in this process, which has to exit with this code."""
        ended = self.run(*arguments)
        assert ended.returncode == exits, ended.stdout + ended.stderr
        return ended

    def json(self, *arguments: str, exits: int = 0) -> Any:
        """What it prints with `--json`."""
        return json.loads(self(*arguments, "--json", exits=exits).stdout)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in a process of its own."""
        command = [sys.executable, "-m", "metering", *arguments]
        return subprocess.Popen(command, env=self.environment, **options)

    def run_apart(self, *arguments: str) -> Ended:
        """Run a command in a process of its own."""
        with self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                out, err = process.communicate(timeout=TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Ended(process.returncode, out, err)

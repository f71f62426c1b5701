"""Runs a command of the product as a process of its own, and measures it."""

import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from time import perf_counter

from metering.lab.bench.stage import BenchFailedError, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command printed, how long it took from its start to its end, and what its process used."""

    printed: bytes
    seconds: float
    peak_megabytes: float
    cpu_seconds: float


def run_command(running: Stage, *arguments: str, exit_codes: Collection[int] = (0,)) -> Ran:
    """Run `metering` with these arguments on the stage's database; it is to end with one of the exit codes.

    Raises:
        BenchFailedError: it ended with another one.
    """
    began = perf_counter()
    command = subprocess.Popen(
        [sys.executable, "-m", "metering", *arguments],
        env=os.environ | running.environment,
        stdout=subprocess.PIPE,
    )
    assert command.stdout is not None
    printed = command.stdout.read()
    _, status, usage = os.wait4(command.pid, 0)
    command.returncode = os.waitstatus_to_exitcode(status)
    if command.returncode not in exit_codes:
        said = printed.decode(errors="replace")[:500]
        raise BenchFailedError(f"metering {' '.join(arguments)} ended with exit code {command.returncode}: {said}")
    return Ran(
        printed=printed,
        seconds=perf_counter() - began,
        peak_megabytes=usage.ru_maxrss / 1024,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
    )

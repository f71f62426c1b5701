"""The machine that a figure was measured on, and the CPU and memory that processes use."""

import os
import platform
import subprocess
import sys
import tempfile
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

import msgspec
import psutil


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that a figure depends on."""

    measured_at: datetime
    command: str
    cpu: str
    cores: int
    memory_gib: int
    system: str
    python: str
    postgres: str
    revision: str
    fdatasync_microseconds: int


def describe_machine(*, now: datetime, postgres: str) -> Machine:
    """Describe this machine; `postgres` is the server's version."""
    return Machine(
        measured_at=now.replace(microsecond=0),
        command=" ".join(["metering", *map(_shown, sys.argv[1:])]),
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30),
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_version()}, psycopg {version('psycopg')}, uvicorn {version('uvicorn')}",
        postgres=postgres,
        revision=_revision(),
        fdatasync_microseconds=_fdatasync_microseconds(),
    )


def cpu_seconds(pid: int) -> float:
    """The CPU seconds of a process and all its children, ended ones included."""
    process = psutil.Process(pid)
    total = sum(process.cpu_times()[:4])
    for child in process.children(recursive=True):
        try:
            total += sum(child.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return float(total)


def resident_megabytes(pid: int) -> float:
    """The resident memory of a process in MB."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def resident_megabytes_of_all(pid: int) -> float:
    """The same, with all processes that it has started."""
    total = resident_megabytes(pid)
    for child in psutil.Process(pid).children(recursive=True):
        try:
            total += resident_megabytes(child.pid)
        except psutil.NoSuchProcess:
            continue
    return total


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _revision() -> str:
    """The commit of a checkout, or the installed version."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return version("metering")


def _fdatasync_microseconds() -> int:
    with tempfile.TemporaryFile() as file:
        took = []
        for place in range(200):
            os.pwrite(file.fileno(), b"x" * 8192, place * 8192)
            began = perf_counter()
            os.fdatasync(file.fileno())
            took.append(perf_counter() - began)
    return round(median(took) * 1e6)


def _shown(argument: str) -> str:
    """An argument as the page shows it: a folder of this machine is of no use to others."""
    return Path(argument).name if argument.startswith("/") else argument

"""Processes of a test's own, that do not outlive it, also when it fails."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from metering.server.embedded.supervisor import ChildSpec

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"


def python(name: str, code: str, **options: Any) -> ChildSpec:
    """A child that runs some code."""
    return ChildSpec(name=name, argv=[sys.executable, "-u", "-c", code], **options)


def is_over(process: psutil.Process) -> bool:
    """Whether it has ended, collected or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Like `Popen`, whose block would wait, after a failure in it, for an end that nobody brings about."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()

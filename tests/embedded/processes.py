"""Processes of a test's own, that do not outlive it, also when it fails."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Like `Popen`, whose block would wait, after a failure in it, for an end that nobody brings about."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()

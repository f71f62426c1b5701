"""Progress: each step by its name on a terminal, nothing in a file."""

import os
import subprocess
import sys

import pytest

from tests.terminal import in_terminal

_STEPS = """
from metering.cli.progress import progress_bar, steps
with steps() as update:
    update("writing streams", 1_000)
    update("writing streams", 12_345)
    update("checking streams", 7)
with progress_bar("removing streams") as removed:
    removed(42)
print("done")
"""


def test_each_step_is_named_with_how_many_are_done() -> None:
    shown = in_terminal([sys.executable, "-c", _STEPS], columns=80, environment=os.environ)
    assert shown.exit_code == 0
    for line in ("writing streams 12,345 ", "checking streams 7 ", "removing streams 42 "):
        assert line in " ".join(shown.text.split())


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_file_gets_none_of_it(stream: str) -> None:
    ran = subprocess.run([sys.executable, "-c", _STEPS], capture_output=True, text=True, check=True)
    assert getattr(ran, stream) == {"stdout": "done\n", "stderr": ""}[stream]

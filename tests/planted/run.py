"""Plant each fault in a copy of the tree, run the tests that must notice it, and demand that each fails.

`make planted` runs all; `python -m tests.planted.run WORD ...` those whose names contain one of the words.
"""

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tests.planted.fault import Fault
from tests.planted.table import FAULTS

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "dist")
OUTPUT = "planted.out"
_OURS = ("metering", "workers", "tests")
_FAILED, _ERROR = (
    re.compile(rf"^{what} ((?:[^\s\[]|\[.*?\](?= - |$))+)", re.MULTILINE) for what in ("FAILED", "ERROR")
)


def main(words: Sequence[str]) -> int:
    """Returns the exit code: 0 if every fault was caught by each of the tests beside it."""
    _import_what_is_not_ours()
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    survived = 0
    with tempfile.TemporaryDirectory(prefix="metering-planted-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        if failed := failing_tests(tree, {each for fault in chosen for each in fault.caught_by}):
            print(f"without a fault these fail already: {', '.join(sorted(failed))}")
            return 1
        for number, fault in enumerate(chosen, start=1):
            began = time.monotonic()
            missed = _missed(fault, tree)
            if missed:
                print((tree / OUTPUT).read_text()[-3_000:])
            verdict = f"SURVIVED {', '.join(missed)}" if missed else f"caught by {', '.join(fault.caught_by)}"
            print(f"{number:3} {time.monotonic() - began:5.1f} s  {fault.name}: {verdict}", flush=True)
            survived += bool(missed)
    print(f"{len(chosen) - survived} of {len(chosen)} planted faults were caught")
    return 1 if survived else 0


def _missed(fault: Fault, tree: Path) -> list[str]:
    """The tests that should have failed with the fault, and passed."""
    sound = (tree / fault.file).read_text()
    fault.plant(tree)
    failed = failing_tests(tree, fault.caught_by)
    (tree / fault.file).write_text(sound)
    return [each for each in fault.caught_by if not any(name.startswith(each) for name in failed)]


def failing_tests(tree: Path, ids: Iterable[str]) -> set[str]:
    """Run these tests of a tree, with the product of that tree; the ids of those that fail.

    Raises:
        RuntimeError: they could not be run.
    """
    output = tree / OUTPUT
    child = os.fork()
    if not child:
        _run_in(tree, sorted(ids), output)
    _, status = os.waitpid(child, 0)
    said = output.read_text()
    failed, errors = (set(pattern.findall(said)) for pattern in (_FAILED, _ERROR))
    code = os.waitstatus_to_exitcode(status)
    # A test that could not begin says nothing about the fault. One that failed may find more at its end.
    if errors - failed or code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest could not run {ids}:\n{said[-3_000:]}")
    return failed


def _run_in(tree: Path, ids: Sequence[str], output: Path) -> None:
    """Become a process that runs the tests."""
    code: int = pytest.ExitCode.INTERNAL_ERROR
    try:
        for stream in (1, 2):
            os.dup2(
                os.open(output, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if stream == 1 else os.O_APPEND)), stream
            )
        for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
            del sys.modules[name]
        os.chdir(tree)
        sys.path[:] = [str(tree), *(path for path in sys.path if path not in ("", str(ROOT)))]
        os.environ.update(PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="", COLUMNS="1000")
        assert Path(importlib.import_module("metering").__file__ or "").is_relative_to(tree)
        code = pytest.main(["-q", "--tb=no", "-n", "0", "-p", "no:cacheprovider", *ids])
    finally:
        sys.stdout.flush()
        os._exit(code)


def _import_what_is_not_ours() -> None:
    """Once, before the forks: importing what the tests import takes longer than most of them."""
    code = "import sys, tests.conftest; print(*sys.modules, sep='\\n')"
    listed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if name.partition(".")[0] not in _OURS:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

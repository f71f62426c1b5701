"""Plant each fault in a copy of the tree, run the tests that must notice it, and demand that each fails.

`make planted` runs all; `python -m tests.planted.run WORD ...` those whose names contain one of the words.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.planted.fault import Fault
from tests.planted.table import FAULTS

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "dist")
TESTS_FAILED = 1
_FAILED = re.compile(r"^FAILED ((?:[^\s\[]|\[.*?\](?= - |$))+)", re.MULTILINE)


def main(words: Sequence[str]) -> int:
    """Returns the exit code: 0 if every fault was caught by each of the tests beside it."""
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
    """Run these tests of a tree with the product of that tree; the ids of those that fail.

    Raises:
        RuntimeError: they could not be run.
    """
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-n", "0", "-p", "no:cacheprovider", *sorted(ids)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "", "COLUMNS": "1000"}
    ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode not in (0, TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {ran.returncode}:\n{ran.stdout[-3_000:]}{ran.stderr[-3_000:]}")
    return set(_FAILED.findall(ran.stdout))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

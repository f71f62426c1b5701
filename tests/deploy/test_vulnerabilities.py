"""What CI says of known vulnerabilities: found ones fail, and what was not compared is never left unsaid."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.files import ROOT

KNOWN = '{"name": "a", "version": "1", "vulns": []}'
BAD = '{"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}'
SKIPPED = '{"name": "c", "skip_reason": "not found on PyPI"}'


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        ([KNOWN], 0, "1 of 1 locked packages compared with pypi"),
        ([KNOWN, SKIPPED], 0, "NOT CHECKED, unknown to pypi: c"),
        ([KNOWN, BAD], 1, "b 2: PYSEC-1, fixed in 3"),
        ([SKIPPED], 0, "NOT CHECKED (pypi: knows none of the packages; osv: knows none of the packages)"),
        (None, 0, "NOT CHECKED (pypi: cannot resolve; osv: cannot resolve)"),
    ],
    ids=["known", "partly", "vulnerable", "unknown", "unreachable"],
)
def test_what_was_compared_and_what_was_not(
    tmp_path: Path, answer: list[str] | None, code: int, says: str
) -> None:
    # Stands for pip-audit, whose sources a test must not depend on.
    program = tmp_path / "pip-audit"
    document = f'{{"dependencies": [{", ".join(answer or ())}]}}'
    speaks = f"echo '{document}'" if answer is not None else "echo cannot resolve >&2; exit 1"
    program.write_text(f"#!/bin/sh\n{speaks}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    command = [sys.executable, str(ROOT / ".ci/vulnerabilities.py"), str(program), "requirements.lock"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, says in done.stdout) == (code, True), done.stdout + done.stderr


def test_ci_runs_it_on_everything_that_is_locked() -> None:
    run = (ROOT / ".ci/run").read_text()
    assert '.ci/vulnerabilities.py "$audit_home/bin/pip-audit" requirements.lock' in run
    assert "--require-hashes --requirement .ci/pip-audit.lock" in run
    assert "pip-audit==" in (ROOT / ".ci/pip-audit.lock").read_text()

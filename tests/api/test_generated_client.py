"""A client from an off-the-shelf generator: made from `/openapi.json` without a warning, and it works."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.builders import Months
from tests.certificates import as_given
from tests.running_api import Api

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
LOCK = HERE / "client-generator.lock"


def run(command: Sequence[str | Path], **environment: str) -> str:
    done = subprocess.run(
        [str(each) for each in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, **as_given(), **environment},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def generator() -> Path:
    """The Python of an environment with the generator and what its clients need: the service's has other versions.

    It is made once for each lock file and Python, as `make setup` makes `.venv`: with uv where there is one.
    """
    mark = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    home = Path(tempfile.gettempdir()) / f"metering-client-generator-{os.getuid()}-{mark}"
    python, complete = home / "bin" / "python", home / "complete"
    home.mkdir(mode=0o700, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            if uv := shutil.which("uv"):
                run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, home])
                run([uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", LOCK])
            else:
                run([sys.executable, "-m", "venv", home])
                run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", LOCK])
            complete.touch()
    return python


def test_a_generated_client_posts_reads_is_refused_with_types_and_downloads(
    months: Months, api: Api, generator: Path, tmp_path: Path
) -> None:
    months.month("acme")
    number = api.client.get("/v1/invoices").json()["data"][0]["number"]
    key = api.client.headers["authorization"].removeprefix("Bearer ")
    path = f"{generator.parent}{os.pathsep}{os.environ['PATH']}"
    command = ["-m", "openapi_python_client", "generate", "--url", f"{api.url}/openapi.json", "--fail-on-warning"]
    said = run([generator, *command, "--output-path", tmp_path / "client"], PATH=path)
    assert "warning" not in said.lower()
    printed = run([generator, HERE / "use_client.py", api.url, key, number], PYTHONPATH=str(tmp_path / "client"))
    seen: dict[str, Any] = json.loads(printed)
    assert seen == {
        "accepted": 2,
        "rejected": [[1, "client:t:1", "invalid-field", "data.output_tokens: expected an integer >= 0, got -4"]],
        "alone": 1,
        "none": ["/problems/invalid-events", 422, ["client:t:1"]],
        "stream": ["ended", 37, "2026-11-23T15:00:00+00:00"],
        "events": ["StreamStart", "StreamEnd", "TokenDelivered"],
        "receipt": "acme",
        "missing": ["/problems/not-found", 404],
        "totals": [["2026-11-23T00:00:00+00:00", "claude-opus-4.7", "0.4985"]],
        "refused": ["/problems/invalid-parameter", 422, seen["refused"][2]],
        "pdf": "%PDF-",
        "page": "<!doctype html>",
        "customer": "Acme",
        "charges": seen["charges"],
        "billed_cents": 100,
    }
    assert seen["refused"][2].startswith("cursor: ")
    assert seen["charges"] > 0

"""The environment of a real LiteLLM proxy: about 120 packages, in versions that are not the service's.

`python -m tests.inlets.litellm_environment` makes it, once for each lock file and Python, in about two minutes.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LOCK = Path(__file__).parent / "litellm-proxy.lock"


def _home() -> Path:
    mark = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    # Not among the temporary files, which tests keep in memory: it has several hundred megabytes.
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "metering-tests" / f"litellm-{mark}"


def litellm_python() -> Path:
    """The Python of the environment."""
    return _home() / "bin" / "python"


def is_complete() -> bool:
    return (_home() / "complete").exists()


def make() -> None:
    """Make the environment, as `make setup` makes `.venv`: with uv where there is one."""
    home, python = _home(), litellm_python()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_complete():
            return
        if uv := shutil.which("uv"):
            _run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, home])
            _run([uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", LOCK])
        else:
            _run([sys.executable, "-m", "venv", home])
            _run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", LOCK])
        (home / "complete").touch()


def _run(command: Sequence[str | Path]) -> None:
    subprocess.run([str(each) for each in command], check=True, timeout=900)


if __name__ == "__main__":
    make()

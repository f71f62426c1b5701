"""`make sbom`: a bill of materials of the release that names every locked package, with its version and hashes."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import ROOT
from tests.licences import locked, pinned_version

MAKEFILE = (ROOT / "Makefile").read_text()
LOCKS = {"sbom.cdx.json": "deploy/requirements.lock", "sbom-development.cdx.json": "requirements.lock"}


def bill_of(lock: str, out: Path) -> dict[str, Any]:
    """What the command of `make sbom` writes."""
    command = re.search(r"cyclonedx-py (requirements .*?--output-file)", MAKEFILE, re.DOTALL)
    assert command
    # To validate takes ten seconds; CI runs `make sbom`, which does.
    options = command[1].replace("\\\n", " ").replace('"$${pair%%:*}"', lock).replace("--v", "--no-v")
    program = Path(sys.executable).with_name("cyclonedx-py")
    subprocess.run([program, *options.split(), str(out)], cwd=ROOT, check=True, capture_output=True, timeout=120)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_the_bill_names_every_locked_package_with_its_version_and_hashes(name: str, tmp_path: Path) -> None:
    assert f"{LOCKS[name]}:{name}" in MAKEFILE
    text = (ROOT / LOCKS[name]).read_text()
    bill = bill_of(LOCKS[name], tmp_path / name)
    assert bill["bomFormat"] == "CycloneDX"
    components = {each["name"]: each for each in bill["components"]}
    requirements = locked(text)
    assert len(components) == len(requirements) > 40
    hashes = _hashes(text)
    for each in requirements:
        component = components[each.name]
        assert component["version"] == pinned_version(each)
        assert component["purl"].startswith(f"pkg:pypi/{each.name}@{pinned_version(each)}")
        found = {one["content"] for reference in component["externalReferences"] for one in reference["hashes"]}
        assert found == hashes[each.name]
        assert found
    assert bill["metadata"]["component"]["name"] == "stream-metering"


def _hashes(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in lock.splitlines():
        if pin := re.match(r"[\w.-]+", line):
            found[pin[0]] = set()
            name = pin[0]
        elif value := re.search(r"--hash=sha256:([0-9a-f]{64})", line):
            found[name].add(value[1])
    return found

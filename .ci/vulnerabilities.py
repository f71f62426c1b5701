"""Compare the locked packages with known vulnerabilities, by pip-audit, and say plainly what was not compared.

    python .ci/vulnerabilities.py PIP_AUDIT LOCK    exits with 1 if a package has a known vulnerability

pip-audit alone says "no known vulnerabilities" also of packages that its source does not know.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

_SERVICES = ("pypi", "osv")
_TIMEOUT_SECONDS = 300


def main() -> None:
    """Ask one service after the other until one knows the packages."""
    program, lock = sys.argv[1:]
    reasons = []
    for service in _SERVICES:
        document, problem = ask(program, lock, service)
        if document is not None and count_checked(document):
            lines, vulnerable = report(document, service=service)
            print("\n".join(lines))
            sys.exit(1 if vulnerable else 0)
        reasons.append(f"{service}: {problem or 'knows none of the packages'}")
    print(f"vulnerabilities: NOT CHECKED ({'; '.join(reasons)})")


def ask(program: str, lock: str, service: str) -> tuple[Mapping[str, Any] | None, str]:
    """What pip-audit found, or None and why it found nothing."""
    command = [program, "--requirement", lock, "--disable-pip", "--no-deps", "--vulnerability-service", service]
    try:
        done = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    try:
        return json.loads(done.stdout), ""
    except ValueError:
        return None, (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]


def count_checked(document: Mapping[str, Any]) -> int:
    """The number of packages that the service knows."""
    return sum("vulns" in each for each in document["dependencies"])


def report(document: Mapping[str, Any], *, service: str) -> tuple[list[str], bool]:
    """Lines for people, and whether a package has a known vulnerability."""
    packages = document["dependencies"]
    skipped = sorted(each["name"] for each in packages if "vulns" not in each)
    lines = [
        f"vulnerabilities: {count_checked(document)} of {len(packages)} locked packages compared with {service}"
    ]
    if skipped:
        lines.append(f"vulnerabilities: NOT CHECKED, unknown to {service}: {', '.join(skipped)}")
    found = [(each, vulnerability) for each in packages for vulnerability in each.get("vulns", ())]
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability.get("fix_versions", ())) or "none yet"
        lines.append(f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    return lines, bool(found)


if __name__ == "__main__":
    main()

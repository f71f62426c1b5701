"""The licences of locked packages: which are allowed, which are exceptions, and what a package says of itself."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version

from packaging.requirements import Requirement

# Permissive ones, by their SPDX names.
ALLOWED = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0"}
)

# What packages say in another way; "BSD License" leaves the number of clauses open.
_SPDX = {
    "Apache": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
_NO_LICENCE = {"DFSG approved", "OSI Approved"}


@dataclass(frozen=True, slots=True)
class Exempt:
    """A package with another licence, and why it may be used all the same."""

    licence: str
    because: str


EXEMPT = {
    "psycopg": Exempt("LGPL-3.0-only", "a library that is imported unchanged and can be replaced by its users"),
    "psycopg-binary": Exempt("LGPL-3.0-only", "psycopg's own compiled part, used in the same way"),
    "certifi": Exempt("MPL-2.0", "a list of certificates, used unchanged"),
    "fqdn": Exempt("MPL-2.0", "checks the document of `make sbom`; not in the product"),
    "hypothesis": Exempt("MPL-2.0", "a tool of the tests; not in the product"),
    "pathspec": Exempt("MPL-2.0", "a part of mypy and of the build; not in the product"),
    "axe-playwright-python": Exempt("", "tests only; it states none in the package, and MIT in its repository"),
}

# Locked for systems that tests do not run on: what PyPI says, read by hand for this version.
ELSEWHERE = {
    "async-timeout==5.0.1": "Apache-2.0",
    "colorama==0.4.6": "BSD-3-Clause",
    "httpx2-jsfetch==1.0": "BSD-3-Clause",
}

_PIN = re.compile(r"^([\w.-]+(?:\[[\w,-]+\])?==[^\s\\]+)(?: *; *([^\\\n]+?))? *\\?$", re.MULTILINE)


def locked(text: str) -> list[Requirement]:
    """The requirements of a lock file, each with its version, and the marker of where it is needed."""
    return [Requirement(f"{pin}; {marker}" if marker else pin) for pin, marker in _PIN.findall(text)]


def pinned_version(requirement: Requirement) -> str:
    """The one version that a lock file allows."""
    [pin] = requirement.specifier
    return pin.version


def licence_of(name: str) -> str:
    """What an installed package says, as an SPDX expression; empty if it says nothing."""
    found = metadata(name)
    expression = found.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [each for each in found.get_all("Classifier") or () if each.startswith("License ::")]
    stated = [each.split(" :: ")[-1] for each in classifiers]
    stated = [each for each in stated if each not in _NO_LICENCE] or [(found.get("License") or "").split("\n")[0]]
    return " OR ".join(_SPDX.get(each.strip(), each.strip()) for each in stated)


def is_allowed(expression: str) -> bool:
    """Whether one of the alternatives is allowed, with all of its parts."""
    if "(" in expression:
        return False
    alternatives = expression.split(" OR ")
    return any(all(part.strip() in ALLOWED for part in each.split(" AND ")) for each in alternatives)


def problems(requirements: Iterable[Requirement]) -> Iterator[str]:
    """What is wrong with the licences of locked packages, each with what to do."""
    for requirement in requirements:
        name, pinned = requirement.name, pinned_version(requirement)
        try:
            installed = version(name)
        except PackageNotFoundError:
            yield from _not_here(requirement)
            continue
        if installed != pinned:
            yield f"{name}: {pinned} is locked, {installed} is installed: run make setup"
            continue
        licence, exempt = licence_of(name), EXEMPT.get(name)
        if exempt is not None and exempt.licence != licence:
            yield f"{name}: the exception is for {exempt.licence!r}, it now says {licence!r}: decide anew"
        if exempt is None and not is_allowed(licence):
            yield f"{name}: {licence or 'no licence'} is not allowed: replace it, or give a reason in EXEMPT"


def _not_here(requirement: Requirement) -> Iterator[str]:
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        yield f"{requirement.name}: not installed, so its licence is not known: run make setup"
    licence = ELSEWHERE.get(f"{requirement.name}=={pinned_version(requirement)}")
    if licence is None or not is_allowed(licence):
        yield f"{requirement.name}: not for this system: read its licence, and add it to ELSEWHERE"

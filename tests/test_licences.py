"""Every locked package has a licence that we allow, or a reason; known without a network."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.licences import ELSEWHERE, EXEMPT, is_allowed, locked, pinned_version, problems

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
SHIPPED = (ROOT / "deploy/requirements.lock").read_text()


def test_every_locked_package_has_an_allowed_licence_or_a_reason() -> None:
    requirements = locked(LOCK)
    assert len(requirements) == len(re.findall(r"^[^\s#]", LOCK, re.MULTILINE)) > 100
    assert list(problems(requirements)) == []


def test_what_the_image_has_is_among_them() -> None:
    known = {(each.name, pinned_version(each)) for each in locked(LOCK)}
    shipped = {(each.name, pinned_version(each)) for each in locked(SHIPPED)}
    assert len(shipped) > 40
    assert shipped <= known


def test_no_exception_is_left_over() -> None:
    names = {each.name for each in locked(LOCK)}
    assert set(EXEMPT) <= names
    assert set(ELSEWHERE) <= {f"{each.name}=={pinned_version(each)}" for each in locked(LOCK)}
    assert all(len(each.because) > 10 for each in EXEMPT.values())


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-2-Clause", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND PSF-2.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR GPL-3.0-only) AND GPL-3.0-only", False),
        ("GPL-3.0-or-later", False),
        ("AGPL-3.0", False),
        ("Proprietary", False),
        ("", False),
    ],
)
def test_copyleft_and_unknown_licences_are_not_allowed(expression: str, allowed: bool) -> None:
    assert is_allowed(expression) is allowed


@pytest.mark.parametrize(
    ("requirement", "says"),
    [
        ("certifi==1999.1", "run make setup"),
        ("no-such-package==1.0", "not installed"),
        ("no-such-package==1.0; sys_platform == 'plan9'", "add it to ELSEWHERE"),
    ],
)
def test_a_package_whose_licence_is_not_known_is_a_problem(requirement: str, says: str) -> None:
    assert says in next(problems([Requirement(requirement)]))

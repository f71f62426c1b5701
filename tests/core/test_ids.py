"""Ids that follow from what they are of: the same always, and different for different parts."""

import re

from hypothesis import given
from hypothesis import strategies as st

from metering.core.ids import digest

# No id has a NUL: the service refuses it.
PARTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4)


@given(PARTS)
def test_an_id_is_24_hexadecimal_digits_and_always_the_same(parts: list[str]) -> None:
    assert re.fullmatch("[0-9a-f]{24}", digest(*parts))
    assert digest(*parts) == digest(*parts)


@given(PARTS.filter(bool), PARTS.filter(bool))
def test_different_parts_have_different_ids(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


def test_parts_do_not_run_into_each_other() -> None:
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", "")}) == 4


def test_ids_stay_what_they_are() -> None:
    """They are stored: another algorithm would make second charges of streams that have one."""
    assert digest("acme", "s1") == "d72cfc1dc51e9072538f9d86"

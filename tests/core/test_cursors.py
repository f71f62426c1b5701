"""Cursors: what comes back is what was given, and nothing else is accepted."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.cursors import InvalidCursorError, decode_cursor, encode_cursor, parse_number, parse_time

POSITIONS = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=4
)


@given(POSITIONS)
def test_a_cursor_leads_back_to_its_position(position: list[str]) -> None:
    cursor = encode_cursor(position)
    assert decode_cursor(cursor, length=len(position)) == position
    assert cursor.isascii()
    assert not set(cursor) & set("=+/ ")


@given(POSITIONS)
def test_a_cursor_of_another_list_is_refused(position: list[str]) -> None:
    with pytest.raises(InvalidCursorError, match="another query"):
        decode_cursor(encode_cursor(position), length=len(position) + 1)


def test_the_first_page_has_no_position() -> None:
    assert decode_cursor(None, length=3) is None


@pytest.mark.parametrize("cursor", ["", "!", "a", "ä", "bm8", encode_cursor(["x"])[:-1] + "!", "W10x"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        decode_cursor(cursor, length=1)


def test_a_position_with_a_nul_is_refused_as_no_id_has_one() -> None:
    with pytest.raises(InvalidCursorError):
        decode_cursor(encode_cursor(["a\0b"]), length=1)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_in_a_position_is_read_back(at: datetime) -> None:
    assert parse_time(at.isoformat()) == at


@given(st.integers(0, 10**18 - 1))
def test_a_number_in_a_position_is_read_back(number: int) -> None:
    assert parse_number(str(number)) == number


@pytest.mark.parametrize("part", ["", "-1", "1.5", "x", "1" * 19, " 1"])
def test_what_is_no_number_is_refused(part: str) -> None:
    with pytest.raises(InvalidCursorError):
        parse_number(part)


def test_what_is_no_moment_is_refused() -> None:
    with pytest.raises(InvalidCursorError):
        parse_time("yesterday")

"""Cursors: what comes back is what was given, and what a list describes as its cursor is a position."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.cursors import (
    NUMBER,
    TEXT,
    TIME,
    InvalidCursorError,
    cursor_pattern,
    decode_cursor,
    encode_cursor,
    parse_number,
    parse_time,
    time_part,
)

POSITIONS = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=4
)


TIMES = st.datetimes(timezones=st.just(UTC)).filter(lambda at: 1 < at.year < 9999)


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


@pytest.mark.parametrize(
    "cursor",
    ["", "!", "a", "ä", "p", "p.a~", "p.a~0", "p.a~2e", "p.a\n", "p.x!", "WyJhIl0"],
)
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        decode_cursor(cursor, length=1)


def test_a_position_with_a_nul_is_refused_as_no_id_has_one() -> None:
    with pytest.raises(InvalidCursorError):
        decode_cursor(encode_cursor(["a\0b"]), length=1)


@given(st.from_regex(re.compile(cursor_pattern(TIME, NUMBER, TEXT), re.ASCII), fullmatch=True))
def test_every_text_of_the_form_is_a_position(cursor: str) -> None:
    position = decode_cursor(cursor.removesuffix("\n"), length=3)
    assert position is not None
    assert parse_time(position[0]).utcoffset() == timedelta(0)
    assert parse_number(position[1]) >= 0
    assert "\0" not in position[2]
    position[2].encode()


@given(TIMES)
def test_a_moment_in_a_position_is_read_back(at: datetime) -> None:
    assert parse_time(time_part(at)) == at


@given(st.integers(0, 10**18 - 1))
def test_a_number_in_a_position_is_read_back(number: int) -> None:
    assert parse_number(str(number)) == number


@pytest.mark.parametrize("part", ["", "-1", "1.5", "x", "1" * 19, " 1"])
def test_what_is_no_number_is_refused(part: str) -> None:
    with pytest.raises(InvalidCursorError):
        parse_number(part)


def test_what_is_no_moment_is_refused() -> None:
    for part in ("yesterday", "2026-11-01T00:00:00", "1.5", "9" * 19):
        with pytest.raises(InvalidCursorError):
            parse_time(part)

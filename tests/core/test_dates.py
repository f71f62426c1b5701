"""Dated rows: each is in force from its moment until the next one takes over."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from metering.core.dates import histories, in_force

T0 = datetime(2026, 11, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 50).map(lambda hours: T0 + timedelta(hours=hours))


@dataclass(frozen=True)
class Row:
    owner: str
    effective_from: datetime


ROWS = st.lists(st.builds(Row, st.sampled_from(["a", "b"]), MOMENTS), unique=True)


@given(ROWS, MOMENTS)
def test_the_newest_row_that_took_effect_is_in_force(rows: list[Row], at: datetime) -> None:
    history = histories(rows, key=lambda row: row.owner).get("a", [])
    effective = [row for row in rows if row.owner == "a" and row.effective_from <= at]
    expected = max(effective, key=lambda row: row.effective_from, default=None)
    assert in_force(history, at) == expected


@given(ROWS)
def test_histories_hold_every_row_once_the_oldest_first(rows: list[Row]) -> None:
    found = histories(rows, key=lambda row: row.owner)
    assert sorted(map(repr, rows)) == sorted(repr(row) for history in found.values() for row in history)
    for owner, history in found.items():
        assert {row.owner for row in history} == {owner}
        assert history == sorted(history, key=lambda row: row.effective_from)


def test_a_row_is_in_force_from_its_very_moment_on() -> None:
    row = Row("a", T0)
    assert in_force([row], T0) == row
    assert in_force([row], T0 - timedelta(microseconds=1)) is None
    assert in_force([], T0) is None

"""Event times that cannot be right: from when on they are told, and from when on they are not believed."""

from datetime import UTC, datetime, timedelta

import pytest

from metering.events.events import UsageEvent
from metering.streams.dating import is_misdated, is_plausible, seconds_ahead
from metering.streams.stream import StreamFacts, facts_of, join_all
from tests.builders.events import T0, delivered, end, start

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("time", "misdated"),
    [
        (T0, False),
        (T0 + DAY, False),
        (T0 + DAY + timedelta(microseconds=1), True),
        (T0 + timedelta(days=366), True),
        (T0 - timedelta(days=2000), False),
        (datetime(2020, 1, 1, tzinfo=UTC), False),
        (datetime(2019, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), True),
        (datetime(1970, 1, 1, tzinfo=UTC), True),
    ],
)
def test_a_time_is_not_believed_a_day_ahead_or_before_2020(time: datetime, misdated: bool) -> None:
    assert is_misdated(time, received_at=T0) == misdated
    assert not (misdated and is_plausible(time, received_at=T0))


@pytest.mark.parametrize(
    ("ahead", "seconds"),
    [(timedelta(0), None), (timedelta(minutes=5), None), (timedelta(minutes=5, seconds=1), 301), (DAY, 86_400)],
)
def test_five_minutes_ahead_are_told(ahead: timedelta, seconds: int | None) -> None:
    assert seconds_ahead(T0 + ahead, received_at=T0) == seconds
    assert is_plausible(T0 + ahead, received_at=T0) == (seconds is None)


def facts(*received: tuple[UsageEvent, datetime]) -> StreamFacts:
    (found,) = join_all(facts_of(event, received_at=at) for event, at in received).values()
    return found


NEXT_YEAR = T0 + timedelta(days=400)


def test_a_right_time_that_comes_later_corrects_a_wrong_one() -> None:
    wrong, right = start(time=NEXT_YEAR), start(time=T0 + timedelta(seconds=1))
    for order in ((wrong, right), (right, wrong)):
        found = facts(*((event, T0 + DAY / 2) for event in order))
        assert found.start.event == right
        assert not found.misdated
        assert not found.conflicting
        assert found.clock_ahead_seconds is not None


def test_a_time_before_2020_never_wins_although_it_is_the_least() -> None:
    wrong, right = end(time=datetime(1970, 1, 1, tzinfo=UTC)), end(time=T0)
    for order in ((wrong, right), (right, wrong)):
        assert facts(*((event, T0) for event in order)).end.event == right


def test_a_stream_whose_clock_is_wrong_happened_when_its_events_arrived() -> None:
    arrived = T0 + timedelta(seconds=9)
    found = facts((start(time=NEXT_YEAR), T0), (end(time=NEXT_YEAR), arrived))
    assert found.misdated
    assert (found.start.at, found.end.at, found.ended_at, found.last_event_at) == (T0, arrived, arrived, arrived)


def test_counters_with_a_wrong_time_count_and_the_stream_is_not_misdated() -> None:
    found = facts((start(), T0), (delivered(time=NEXT_YEAR), T0 + timedelta(seconds=3)))
    assert not found.misdated
    assert found.delivered.output_tokens == 20
    assert found.last_event_at == T0 + timedelta(seconds=3)
    assert found.clock_ahead_seconds == int(timedelta(days=400).total_seconds()) - 3

"""Times and durations of records: those that no event can have are none."""

from datetime import UTC, datetime, timedelta

import pytest

from metering.events.events import FIRST_YEAR, LAST_YEAR
from metering.translations.completions import time_after_epoch, time_later, time_of

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-23T15:00:00.123456789+02:00", datetime(2026, 11, 23, 13, 0, 0, 123456, tzinfo=UTC)),
        (f"{FIRST_YEAR}-01-01T00:00:00Z", datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)),
        (f"{LAST_YEAR}-12-31T23:59:59Z", datetime(LAST_YEAR, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (f"{LAST_YEAR}-12-31T23:59:59-01:00", None),
        (f"{FIRST_YEAR}-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("2026-11-23T15:00:00", None),
        ("yesterday", None),
        (1_763_000_000, None),
    ],
)
def test_a_text_is_a_time_if_an_event_can_have_it(text: object, time: datetime | None) -> None:
    assert time_of(text) == time


@pytest.mark.parametrize(
    ("number", "time"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        ("1.5", datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)),
        (253_370_764_799, datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (253_370_764_800, None),
        (1e300, None),
        (-1, None),
        (True, None),
    ],
)
def test_a_number_is_a_time_if_an_event_can_have_it(number: object, time: datetime | None) -> None:
    assert time_after_epoch(number, unit=SECOND) == time


def test_a_time_is_not_moved_to_where_no_event_can_be() -> None:
    late, early = datetime(LAST_YEAR, 12, 31, tzinfo=UTC), datetime(FIRST_YEAR, 1, 2, tzinfo=UTC)
    assert time_later(late, timedelta(days=1)) is None
    assert time_later(late, timedelta.max) is None
    assert time_later(early, timedelta(days=-2)) is None
    assert time_later(early, SECOND) == early + SECOND

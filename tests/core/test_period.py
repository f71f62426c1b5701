"""Calendars: days and months of time zones, also where clocks are changed at midnight or a day is left out."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from metering.core.period import BillingPeriod, day_bounds

# Each with days around a change: by night, at midnight, forth and back, and a day that never was.
CHANGES = [
    ("America/New_York", date(2026, 3, 8), date(2026, 11, 1)),
    ("America/Sao_Paulo", date(2018, 11, 4), date(2018, 2, 18)),
    ("America/Havana", date(2026, 3, 8), date(2026, 11, 1)),
    ("Africa/Cairo", date(2026, 4, 24), date(2026, 10, 29)),
    ("Pacific/Apia", date(2011, 12, 30), date(2011, 12, 31)),
    ("Asia/Kathmandu", date(2026, 3, 8), date(2026, 11, 1)),
]


@pytest.mark.parametrize(("name", "first", "second"), CHANGES)
def test_days_follow_each_other_and_hold_each_of_their_moments(name: str, first: date, second: date) -> None:
    zone = ZoneInfo(name)
    for changed in (first, second):
        days = [changed + timedelta(days=number) for number in range(-3, 4)]
        bounds = [day_bounds(day, time_zone=zone) for day in days]
        for (_, ends), (starts, _) in pairwise(bounds):
            assert ends == starts
        moment, until = bounds[0][0], bounds[-1][1]
        while moment < until:
            day = moment.astimezone(zone).date()
            starts, ends = day_bounds(day, time_zone=zone)
            assert starts <= moment < ends, (moment, day)
            moment += timedelta(minutes=30)


def test_a_day_has_as_many_hours_as_its_clocks_show() -> None:
    zone = ZoneInfo("America/New_York")
    days = (date(2026, 3, 8), date(2026, 3, 9), date(2026, 11, 1))
    bounds = [day_bounds(day, time_zone=zone) for day in days]
    hours = [(ends - starts) / timedelta(hours=1) for starts, ends in bounds]
    assert hours == [23, 24, 25]


def test_a_month_begins_where_the_one_before_ended_though_the_customer_moved() -> None:
    november = BillingPeriod(2026, 11)
    berlin = ZoneInfo("Europe/Berlin")
    end = datetime(2026, 11, 30, 23, tzinfo=UTC)
    in_utc = datetime(2026, 11, 1, tzinfo=UTC)
    assert november.bounds(time_zone=berlin, closed_until=in_utc) == (in_utc, end)
    assert november.bounds(time_zone=berlin, closed_until=None) == (datetime(2026, 10, 31, 23, tzinfo=UTC), end)
    long_ago = datetime(2026, 8, 1, tzinfo=UTC)
    assert november.bounds(time_zone=berlin, closed_until=long_ago)[0] == datetime(2026, 10, 31, 23, tzinfo=UTC)

"""Calendars: days and months of time zones, also where clocks are changed at midnight or a day is left out."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.period import BillingPeriod, InvalidPeriodError, day_bounds

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


MONTHS = st.builds(BillingPeriod, st.integers(1970, 2998), st.integers(1, 12))
ZONES = st.sampled_from(["UTC", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu"])


@given(MONTHS)
def test_a_month_is_read_back_from_its_text(month: BillingPeriod) -> None:
    assert BillingPeriod.parse(str(month)) == month


@given(MONTHS)
def test_the_month_after_and_the_month_before_lead_back(month: BillingPeriod) -> None:
    assert month.next.previous == month == month.previous.next
    assert month.previous < month < month.next


@given(MONTHS, ZONES.map(ZoneInfo), st.timedeltas(timedelta(0), timedelta(days=27)))
def test_a_month_contains_its_moments_and_not_its_end(
    month: BillingPeriod, zone: ZoneInfo, into: timedelta
) -> None:
    start, end = month.bounds(time_zone=zone, closed_until=None)
    # By the wall clock: the end of the month belongs to the next.
    assert BillingPeriod.containing(at=start, time_zone=zone) == month
    assert BillingPeriod.containing(at=start + into, time_zone=zone) == month
    assert BillingPeriod.containing(at=end, time_zone=zone) == month.next
    assert BillingPeriod.containing(at=end.astimezone(UTC) - timedelta(microseconds=1), time_zone=zone) == month


@given(MONTHS, ZONES.map(ZoneInfo))
def test_a_month_lies_within_its_bounds_in_any_zone(month: BillingPeriod, zone: ZoneInfo) -> None:
    begin, until = month.in_any_zone
    start, end = month.bounds(time_zone=zone, closed_until=None)
    assert begin <= start < end <= until


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-13", "2026-00", "1969-12", "3000-01", "2026-1", " 2026-10", "2026-10 "]
)
def test_a_text_that_names_no_month_is_refused(text: str) -> None:
    with pytest.raises(InvalidPeriodError, match="expected a month such as 2026-10"):
        BillingPeriod.parse(text)

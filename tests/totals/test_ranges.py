"""Ranges: whatever is asked, each moment of it is summed once, from the coarsest table that has it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.totals.ranges import (
    Granularity,
    Stretch,
    Unit,
    bucket_key,
    bucket_starts,
    page_ranges,
    utc_ranges,
    zoned_stretches,
)

T0 = datetime(2026, 2, 20, tzinfo=UTC)
# Over months of 28 and 31 days, to the minute, often on the hour.
MOMENTS = st.one_of(
    st.integers(0, 24 * 100).map(lambda hours: T0 + timedelta(hours=hours)),
    st.integers(0, 60 * 24 * 100).map(lambda minutes: T0 + timedelta(minutes=minutes)),
)
RANGES = st.tuples(MOMENTS, MOMENTS).map(sorted).filter(lambda pair: pair[0] < pair[1])
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Kiritimati"]
)

TIMED = st.sampled_from([Granularity.HOUR, Granularity.DAY, Granularity.MONTH])


@given(RANGES, st.sampled_from(Granularity))
def test_the_pieces_of_a_range_in_utc_follow_each_other_and_leave_nothing_out(
    asked: list[datetime], granularity: Granularity
) -> None:
    begin, end = asked
    found = utc_ranges(begin, end, granularity)
    # Each unit holds the next larger one; the edges are what no whole hour covers.
    order = ["head", "hours_from", "days_from", "months_from", "months_to", "days_to", "hours_to", "tail_end"]
    moments = [found[name] for name in order]
    if found["head_end"] == found["tail"] == end:
        assert moments[0] == begin
    else:
        assert (found["head"], found["head_end"]) == (begin, found["hours_from"])
        assert (found["tail"], found["tail_end"]) == (found["hours_to"], end)
        assert moments == sorted(moments)


@given(RANGES, st.sampled_from(Granularity))
def test_units_are_whole(asked: list[datetime], granularity: Granularity) -> None:
    found = utc_ranges(*asked, granularity)
    if found["hours_from"] < found["hours_to"]:
        assert all(found[name].minute == 0 for name in ("hours_from", "hours_to"))
    if found["days_from"] < found["days_to"]:
        assert granularity is not Granularity.HOUR
        assert all(found[name].hour == 0 for name in ("days_from", "days_to"))
    if found["months_from"] < found["months_to"]:
        assert granularity not in (Granularity.HOUR, Granularity.DAY)
        assert all(found[name].day == 1 for name in ("months_from", "months_to"))


@given(RANGES, st.sampled_from([Granularity.DAY, Granularity.MONTH]), ZONES.map(ZoneInfo))
def test_stretches_cover_a_range_once(asked: list[datetime], granularity: Granularity, zone: ZoneInfo) -> None:
    begin, end = asked
    found = zoned_stretches(begin, end, granularity, zone)
    summed = sorted(
        (each for each in found if each.unit is not Unit.PENDING), key=lambda each: (each.from_, each.to)
    )
    at = begin
    for stretch in summed:
        assert stretch.from_ == at < stretch.to
        at = stretch.to
    assert at == end


@given(RANGES, st.sampled_from([Granularity.DAY, Granularity.MONTH]), ZONES.map(ZoneInfo))
def test_what_is_pending_is_looked_for_in_all_whole_hours(
    asked: list[datetime], granularity: Granularity, zone: ZoneInfo
) -> None:
    def hours(stretches: list[Stretch], *units: Unit) -> set[datetime]:
        return {
            each.from_ + timedelta(hours=number)
            for each in stretches
            if each.unit in units
            for number in range((each.to - each.from_) // timedelta(hours=1))
        }

    found = zoned_stretches(*asked, granularity, zone)
    assert hours(found, Unit.PENDING) == hours(found, Unit.HOURS, Unit.DAYS)


@pytest.mark.parametrize(
    ("zone", "units"),
    [
        ("UTC", {Unit.DAYS}),
        ("Europe/Berlin", {Unit.HOURS, Unit.DAYS}),
        ("Asia/Kathmandu", {Unit.QUARTERS, Unit.HOURS, Unit.DAYS}),
    ],
)
def test_a_month_is_read_from_days_hours_where_a_zone_is_off_and_quarters_where_it_is_off_by_less(
    zone: str, units: set[Unit]
) -> None:
    begin, end = (datetime(2026, month, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC) for month in (6, 7))
    found = zoned_stretches(begin, end, Granularity.MONTH, ZoneInfo(zone))
    assert {each.unit for each in found} - {Unit.PENDING} == units


@given(RANGES, ZONES.map(ZoneInfo), TIMED)
def test_quarters_are_whole_and_lie_within_an_hour_and_bills_are_read_for_less_than_one(
    asked: list[datetime], zone: ZoneInfo, granularity: Granularity
) -> None:
    for each in zoned_stretches(*asked, granularity, zone):
        if each.unit is Unit.QUARTERS:
            assert not (each.from_ - datetime(1970, 1, 1, tzinfo=UTC)) % timedelta(minutes=15)
            assert not (each.to - each.from_) % timedelta(minutes=15)
            assert each.to - each.from_.replace(minute=0) <= timedelta(hours=1)
        elif each.unit is Unit.BILLS:
            assert each.to - each.from_ < timedelta(minutes=30)


@given(RANGES, ZONES.map(ZoneInfo), TIMED)
def test_ranges_of_pages_follow_each_other_begin_small_and_cut_no_bucket(
    asked: list[datetime], zone: ZoneInfo, granularity: Granularity
) -> None:
    begin, end = asked
    found = list(page_ranges(begin, end, granularity, zone, after=None))
    assert [found[0][0], *(to for _, to in found)] == [*(from_ for from_, _ in found), end]
    assert found[0][0] == begin
    if granularity is not Granularity.HOUR:
        starts = bucket_starts(begin, end, granularity, zone)[1:]
        assert [from_ for from_, _ in found[1:]] == [starts[2**turn - 2] for turn in range(1, len(found))]
    else:
        assert all(from_.minute == 0 for from_, _ in found[1:])


@given(
    RANGES, ZONES.map(ZoneInfo), st.sampled_from([Granularity.HOUR, Granularity.DAY, Granularity.MONTH]), st.data()
)
def test_the_ranges_of_a_later_page_begin_with_the_bucket_of_the_last_row(
    asked: list[datetime], zone: ZoneInfo, granularity: Granularity, data: st.DataObject
) -> None:
    begin, end = asked
    buckets = [from_ for from_, _ in page_ranges(begin, end, granularity, zone, after=None)]
    last = data.draw(st.sampled_from(buckets[1:] or buckets))
    found = list(page_ranges(begin, end, granularity, zone, after=bucket_key(last)))
    assert (found[0][0], found[-1][1]) == (last, end)


def test_nothing_is_read_behind_the_last_bucket() -> None:
    begin, end = T0, T0 + timedelta(days=2)
    assert not list(page_ranges(begin, end, Granularity.DAY, ZoneInfo("UTC"), after=bucket_key(end)))


@pytest.mark.parametrize("granularity", [Granularity.HOUR, Granularity.DAY, Granularity.MONTH])
def test_the_ranges_of_eight_thousand_years_are_a_few(granularity: Granularity) -> None:
    begin, end = datetime(1969, 12, 31, 0, 30, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
    found = list(page_ranges(begin, end, granularity, ZoneInfo("Asia/Kathmandu"), after=None))
    assert len(found) < 30
    assert (found[0][0], found[-1][1]) == (begin, end)


@given(
    RANGES, ZONES.map(ZoneInfo), st.sampled_from([Granularity.HOUR, Granularity.DAY, Granularity.MONTH]), st.text()
)
def test_whatever_a_client_sends_as_a_position_the_ranges_end_with_the_range(
    asked: list[datetime], zone: ZoneInfo, granularity: Granularity, after: str
) -> None:
    begin, end = asked
    for from_, to in page_ranges(begin, end, granularity, zone, after=after):
        assert begin <= from_ < to <= end

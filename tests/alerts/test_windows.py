"""Windows: the months and days of any time zone, and when a day is complete."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.alerts.windows import day_windows, month_windows

ZONES = st.sampled_from(
    [
        "UTC",
        "America/New_York",
        "America/Havana",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
    ]
).map(ZoneInfo)
MOMENTS = st.datetimes(datetime(2011, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(MOMENTS, ZONES)
def test_now_is_in_the_last_month_and_in_the_last_day(now: datetime, zone: ZoneInfo) -> None:
    _, month = month_windows(now=now, time_zone=zone)[-1]
    yesterday, today = day_windows(now=now, time_zone=zone)
    assert month.starts_at <= now < month.ends_at
    assert today.window.starts_at <= now < today.window.ends_at
    assert today.window.key == now.astimezone(zone).date().isoformat()
    assert yesterday.window.ends_at <= today.window.starts_at
    assert not today.complete


@given(MOMENTS, ZONES)
def test_a_month_is_looked_at_for_a_day_after_its_end(now: datetime, zone: ZoneInfo) -> None:
    found = month_windows(now=now, time_zone=zone)
    into = now - found[-1][1].starts_at
    assert len(found) == (2 if into < timedelta(days=1) else 1)
    for month, window in found:
        assert window.key == str(month)
    if len(found) == 2:
        assert found[0][1].ends_at == found[1][1].starts_at


@given(MOMENTS, ZONES)
def test_a_day_is_complete_an_hour_after_its_end(now: datetime, zone: ZoneInfo) -> None:
    yesterday, _ = day_windows(now=now, time_zone=zone)
    assert yesterday.complete == (now >= yesterday.window.ends_at + timedelta(hours=1))


@pytest.mark.parametrize(
    ("zone", "now", "hours"),
    [
        ("America/New_York", datetime(2026, 3, 8, 16, tzinfo=UTC), 23),
        ("America/New_York", datetime(2026, 11, 1, 16, tzinfo=UTC), 25),
        ("Australia/Lord_Howe", datetime(2026, 10, 4, 0, tzinfo=UTC), 23.5),
        ("Asia/Kathmandu", datetime(2026, 3, 8, tzinfo=UTC), 24),
    ],
)
def test_a_day_is_as_long_as_its_clocks_show(zone: str, now: datetime, hours: float) -> None:
    _, today = day_windows(now=now, time_zone=ZoneInfo(zone))
    assert (today.window.ends_at - today.window.starts_at) == timedelta(hours=hours)


def test_the_days_before_one_begin_at_its_zones_midnights() -> None:
    zone = ZoneInfo("America/New_York")
    _, today = day_windows(now=datetime(2026, 3, 10, 16, tzinfo=UTC), time_zone=zone)
    # The clocks were changed on the 8th.
    assert today.midnight_before(0) == datetime(2026, 3, 10, 4, tzinfo=UTC)
    assert today.midnight_before(3) == datetime(2026, 3, 7, 5, tzinfo=UTC)

"""Which texts name a time zone, and where months begin in every zone there is."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest

from metering.core.period import BillingPeriod
from metering.core.time_zones import find_zone, nearest_zone, shown_zone, zone_names


@pytest.mark.parametrize(
    "name",
    ["localtime", "posixrules", "Factory", "posix/Europe/Berlin", "right/Asia/Tokyo", "europe/berlin",
     "EUROPE/BERLIN", "Europe", "", " Europe/Berlin", "Europe/Berlin ", "../Europe/Berlin", "/etc/localtime",
     "FOO3", "UTC+2", "CEST", "+02:00", "Mars/Olympus", "Europe/Berlin\0", "leapseconds", "tzdata.zi", "zone.tab",
     "GMT+1", "Ｕtc"],
)  # fmt: skip
def test_a_text_that_is_no_iana_name_is_no_zone(name: str) -> None:
    assert find_zone(name) is None
    assert shown_zone(name).key == "UTC"


def test_the_names_are_iana_names_on_any_machine() -> None:
    assert len(zone_names()) > 590
    assert all(find_zone(name) is not None for name in zone_names())
    assert zone_names() <= available_timezones()
    assert {"UTC", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Chatham", "Australia/Lord_Howe"} <= zone_names()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("europe/berlin", "Europe/Berlin"), ("Europe/Berlni", "Europe/Berlin"), ("Kathmandu", "Asia/Kathmandu"),
     ("posix/Europe/Paris", "Europe/Paris"), ("right/Asia/Tokyo", "Asia/Tokyo"), ("utc", "UTC"),
     ("America/New York", "America/New_York"), (" Asia/Tokyo ", "Asia/Tokyo"), ("localtime", None), ("", None)],
)  # fmt: skip
def test_the_nearest_name_is_what_was_probably_meant(name: str, nearest: str | None) -> None:
    assert nearest_zone(name) == nearest


def test_the_nearest_name_of_a_long_text_is_found_soon() -> None:
    nearest_zone("Europe/Berlin" * 100_000)


def test_a_month_begins_at_the_first_moment_that_its_zone_calls_by_its_name() -> None:
    tick = timedelta(microseconds=1)
    for name in sorted(zone_names()):
        zone = ZoneInfo(name)
        for year in range(2012, 2036):
            for month in range(1, 13):
                period = BillingPeriod(year, month)
                starts_at = period.start(time_zone=zone).astimezone(UTC)
                assert BillingPeriod.containing(at=starts_at, time_zone=zone) == period, (name, str(period))
                before = BillingPeriod.containing(at=starts_at - tick, time_zone=zone)
                assert before == period.previous, (name, str(period))


def test_of_two_midnights_a_month_begins_at_the_first() -> None:
    # Cuba set its clocks from one o'clock back to midnight on the first of November.
    starts_at = BillingPeriod(2020, 11).start(time_zone=ZoneInfo("America/Havana")).astimezone(UTC)
    assert starts_at == datetime(2020, 11, 1, 4, tzinfo=UTC)

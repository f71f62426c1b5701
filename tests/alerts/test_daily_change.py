"""Alerts about a day against those before it: rises at once, falls when the day is over, small amounts never."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from metering.alerts.alerts import AlertKind, AlertScope
from tests.alerts.watched import NOW, Watched

CHANGE = AlertKind.DAILY_CHANGE
TODAY, YESTERDAY = "2026-11-23", "2026-11-22"


def days_of(watched: Watched, customer_id: str, cents: list[int | str], *, until: datetime = NOW) -> None:
    """Use so much a day, the last of them on the day of `until`."""
    for before, amount in enumerate(reversed(cents)):
        if Decimal(amount):
            watched.use(customer_id, Decimal(amount), until - timedelta(days=before))


@pytest.mark.parametrize(("today", "rises"), [("14.9975", False), ("15", True)])
def test_a_rise_fires_before_the_day_is_over(watched: Watched, today: str, rises: bool) -> None:
    watched.alert(CHANGE, 50, floor_usd_cents=0, trailing_days=2)
    days_of(watched, "acme", [100, 8, 12, today])
    assert watched.occurred(CHANGE) == ({("acme", TODAY, "50")} if rises else set())


def test_a_day_without_usage_counts_in_the_mean(watched: Watched) -> None:
    watched.alert(CHANGE, 100, floor_usd_cents=0, trailing_days=4)
    days_of(watched, "acme", [20, 0, 0, 0, 10])
    assert watched.occurred(CHANGE) == {("acme", TODAY, "100")}
    (one,) = watched.occurrences()
    told = {name: one.data[name] for name in ("day_usd_cents", "trailing_usd_cents", "trailing_days", "value")}
    assert told == {"day_usd_cents": "10", "trailing_usd_cents": "20", "trailing_days": 4, "value": "100"}


def test_amounts_below_the_floor_do_not_fire_and_a_first_day_above_it_does(watched: Watched) -> None:
    watched.alert(CHANGE, 1000, floor_usd_cents=10)
    days_of(watched, "small", [1, "9.9975"])
    days_of(watched, "new", [10])
    assert watched.occurred(CHANGE) == {("new", TODAY, "1000")}
    assert watched.occurrences()[0].data["value"] is None


def test_a_fall_fires_an_hour_after_the_day_and_not_before(watched: Watched) -> None:
    watched.alert(CHANGE, -50, -100, floor_usd_cents=10, trailing_days=1)
    days_of(watched, "half", [20, 10])
    days_of(watched, "gone", [20])
    days_of(watched, "gone", [20], until=NOW - timedelta(days=1))
    days_of(watched, "little", [9])
    days_of(watched, "steady", [20, "10.0025"])
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    assert watched.occurred(CHANGE, midnight + timedelta(minutes=59)) == set()
    assert watched.occurred(CHANGE, midnight + timedelta(hours=1)) == {("half", TODAY, "-50")}
    after = midnight + timedelta(days=1, hours=1)
    tomorrow = "2026-11-24"
    fallen = {(who, tomorrow, each) for who in ("half", "gone", "steady") for each in ("-50", "-100")}
    assert watched.occurred(CHANGE, after) == fallen | {("half", TODAY, "-50")}


def test_yesterday_is_looked_at_as_well_and_the_day_before_is_not(watched: Watched) -> None:
    watched.alert(CHANGE, 50, floor_usd_cents=0, trailing_days=7)
    days_of(watched, "acme", [5], until=NOW - timedelta(days=1))
    days_of(watched, "older", [5], until=NOW - timedelta(days=2))
    assert watched.occurred(CHANGE) == {("acme", YESTERDAY, "50")}


def test_all_customers_together_are_compared_by_the_same_rule(watched: Watched) -> None:
    watched.alert(CHANGE, 50, scope=AlertScope.DEPLOYMENT, floor_usd_cents=30, trailing_days=2)
    watched.alert(CHANGE, 51, scope=AlertScope.DEPLOYMENT, floor_usd_cents=30, trailing_days=2)
    watched.alert(CHANGE, 50, scope=AlertScope.DEPLOYMENT, floor_usd_cents=31, trailing_days=2)
    days_of(watched, "acme", [10, 10, 20])
    days_of(watched, "other", [10, 10, 10])
    assert watched.occurred(CHANGE) == {("", TODAY, "50")}


@pytest.mark.parametrize("time_zone", ["Asia/Kolkata", "America/New_York", "Pacific/Auckland"])
def test_a_day_is_the_customers_own(watched: Watched, time_zone: str) -> None:
    watched.customer("acme", time_zone)
    watched.alert(CHANGE, 100, customer_id="acme", floor_usd_cents=0, trailing_days=1)
    midnights = {
        "Asia/Kolkata": datetime(2026, 11, 22, 18, 30, tzinfo=UTC),
        "America/New_York": datetime(2026, 11, 23, 5, tzinfo=UTC),
        "Pacific/Auckland": datetime(2026, 11, 22, 11, tzinfo=UTC),
    }
    midnight = midnights[time_zone]
    watched.use("acme", 10, midnight - timedelta(microseconds=1))
    watched.use("acme", 10, midnight)
    watched.use("acme", 9, midnight + timedelta(hours=23))
    day = date(2026, 11, 23).isoformat()
    assert watched.occurred(CHANGE, midnight + timedelta(hours=12)) == {("acme", YESTERDAY, "100")}
    watched.use("acme", 1, midnight + timedelta(hours=24) - timedelta(microseconds=1))
    assert ("acme", day, "100") in watched.occurred(CHANGE, midnight + timedelta(hours=12))

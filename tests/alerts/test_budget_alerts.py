"""Alerts about budgets: shares of each budget's limit, once in each of its windows, to the last digit."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from metering.alerts.alerts import AlertKind, AlertScope
from metering.alerts.evaluate_alerts import prune_alert_log
from metering.alerts.manage_alerts import AlertChanges, change_alert, delete_alert
from metering.budgets.budget import BudgetAction, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.set_budget import end_budget
from tests.alerts.watched import NOW, Watched
from tests.builders.budgets import Purse, asked

BUDGET = AlertKind.BUDGET
NOVEMBER = "2026-11-01T00:00Z"
DAY = timedelta(days=1)
EVERYTHING = BudgetScope(ScopeKind.DEPLOYMENT)


@pytest.fixture
def purse(watched: Watched) -> Purse:
    return Purse(watched.service)


def of(customer_id: str) -> BudgetScope:
    return BudgetScope(ScopeKind.CUSTOMER, customer_id)


def test_a_threshold_fires_when_it_is_reached_to_the_last_digit_and_not_before(
    watched: Watched, purse: Purse
) -> None:
    purse.set("b", "100")
    watched.alert(BUDGET, 80, 100, customer_id="acme")
    watched.use("acme", Decimal("79.9975"), NOW)
    assert watched.occurred(BUDGET) == set()
    watched.use("acme", Decimal("0.0025"), NOW)
    assert watched.occurred(BUDGET) == {("acme", f"b/{NOVEMBER}/100", "80")}
    watched.use("acme", Decimal("19.9975"), NOW)
    assert watched.evaluate(BUDGET).occurrences == 0
    watched.use("acme", Decimal("0.0050"), NOW)
    assert watched.occurred(BUDGET) == {("acme", f"b/{NOVEMBER}/100", each) for each in ("80", "100")}
    assert watched.evaluate(BUDGET).occurrences == 0


def test_each_budget_of_a_customer_fires_by_itself(watched: Watched, purse: Purse) -> None:
    purse.set("month", "100")
    purse.set("key", "50", scope=BudgetScope(ScopeKind.API_KEY, "acme", "k"), window=BudgetWindow.DAY)
    tagged = BudgetScope(ScopeKind.TAG, "acme", tag_name="team", tag_value="x")
    purse.set("tag", "200", scope=tagged, window=BudgetWindow.TOTAL)
    watched.alert(BUDGET, 50, customer_id="acme")
    watched.use("acme", 50, NOW)
    assert watched.occurred(BUDGET) == {("acme", f"month/{NOVEMBER}/100", "50")}
    watched.use("acme", 100, NOW, started={"api_key_id": "k", "tags": {"team": "x"}})
    assert watched.occurred(BUDGET) == {
        ("acme", f"month/{NOVEMBER}/100", "50"),
        ("acme", "key/2026-11-23T00:00Z/50", "50"),
        ("acme", "tag/total/200", "50"),
    }


def test_an_alert_watches_the_budgets_of_one_customer_of_each_or_of_the_deployment(
    watched: Watched, purse: Purse
) -> None:
    watched.customer("bolt")
    for customer_id in ("acme", "bolt"):
        purse.set(customer_id, "60", scope=of(customer_id))
        watched.use(customer_id, 60, NOW)
    purse.set("all", "120", scope=EVERYTHING)
    one = watched.alert(BUDGET, 100, customer_id="acme")
    each = watched.alert(BUDGET, 100)
    together = watched.alert(BUDGET, 100, scope=AlertScope.DEPLOYMENT)
    assert watched.evaluate(BUDGET).occurrences == 4
    assert {found.customer_id for found in watched.occurrences(alert_id=one.alert_id)} == {"acme"}
    assert {found.customer_id for found in watched.occurrences(alert_id=each.alert_id)} == {"acme", "bolt"}
    (found,) = watched.occurrences(alert_id=together.alert_id)
    assert (found.customer_id, found.data["customer_id"], found.data["budget_id"]) == ("", None, "all")


@pytest.mark.parametrize(
    ("scope", "customers"),
    [
        ({"customer_id": "acme"}, {"acme"}),
        ({"scope": AlertScope.EACH_CUSTOMER}, {"acme", "bolt"}),
        ({"scope": AlertScope.DEPLOYMENT}, {""}),
    ],
    ids=["customer", "each_customer", "deployment"],
)
def test_alone_each_scope_watches_its_own_budgets(
    watched: Watched, purse: Purse, scope: dict[str, Any], customers: set[str]
) -> None:
    watched.customer("bolt")
    for customer_id in ("acme", "bolt"):
        purse.set(customer_id, "60", scope=of(customer_id))
        watched.use(customer_id, 60, NOW)
    purse.set("all", "120", scope=EVERYTHING)
    watched.alert(BUDGET, 100, **scope)
    assert {each[0] for each in watched.occurred(BUDGET)} == customers


def test_it_fires_again_in_the_next_window_and_in_a_window_that_is_over_for_a_day(
    watched: Watched, purse: Purse
) -> None:
    purse.set("day", "10", window=BudgetWindow.DAY)
    watched.alert(BUDGET, 100, customer_id="acme")
    watched.use("acme", 10, NOW)
    today = ("acme", "day/2026-11-23T00:00Z/10", "100")
    assert watched.occurred(BUDGET) == {today}
    tomorrow = ("acme", "day/2026-11-24T00:00Z/10", "100")
    watched.use("acme", 4, NOW + DAY)
    assert watched.occurred(BUDGET, NOW + DAY) == {today}
    watched.use("acme", 6, NOW + DAY)
    assert watched.occurred(BUDGET, NOW + DAY) == {today, tomorrow}
    # Of a window that is over, streams may still be finalized.
    for number, after in ((1, timedelta(hours=23)), (2, timedelta(hours=25))):
        watched.customer(f"late{number}")
        purse.set(f"late{number}", "10", scope=of(f"late{number}"), window=BudgetWindow.DAY)
        watched.alert(BUDGET, 100, customer_id=f"late{number}")
        watched.use(f"late{number}", 10, NOW)
        midnight = datetime(2026, 11, 24, tzinfo=UTC)
        assert watched.evaluate(BUDGET, midnight + after).occurrences == (1 if number == 1 else 0)


def test_a_changed_limit_arms_an_alert_again_and_other_changes_of_a_budget_do_not(
    watched: Watched, purse: Purse
) -> None:
    purse.set("b", "100")
    watched.alert(BUDGET, 80, 100, customer_id="acme")
    watched.use("acme", 100, NOW)
    assert watched.evaluate(BUDGET).occurrences == 2
    purse.set("b", "100", action=BudgetAction.WARN, unknown_price="5")
    assert watched.evaluate(BUDGET).occurrences == 0
    purse.set("b", "200")
    assert watched.evaluate(BUDGET).occurrences == 0
    watched.use("acme", 60, NOW)
    assert watched.evaluate(BUDGET).occurrences == 1
    purse.set("b", "160")
    assert watched.evaluate(BUDGET).occurrences == 2
    # A limit that it had before in this window has fired.
    purse.set("b", "100.00")
    assert watched.evaluate(BUDGET).occurrences == 0
    assert {each.alert_window.rpartition("/")[2] for each in watched.occurrences()} == {"100", "160", "200"}


def test_other_thresholds_arm_an_alert_again(watched: Watched, purse: Purse) -> None:
    purse.set("b", "100")
    alert = watched.alert(BUDGET, 80, customer_id="acme")
    watched.use("acme", 90, NOW)
    assert watched.evaluate(BUDGET).occurrences == 1
    changes = AlertChanges(thresholds=[Decimal(80), Decimal(90)])
    change_alert(engine=purse.engine, alert_id=alert.alert_id, changes=changes, now=NOW)
    assert watched.evaluate(BUDGET).occurrences == 2


def test_a_budget_that_ended_is_not_watched_and_one_that_begins_again_does_not_fire_twice(
    watched: Watched, purse: Purse
) -> None:
    for budget_id in ("fired", "silent"):
        purse.set(budget_id, "100")
    alert = watched.alert(BUDGET, 100, customer_id="acme")
    watched.use("acme", 60, NOW)
    end_budget(engine=purse.engine, budget_id="silent", by="test", now=NOW)
    watched.use("acme", 40, NOW)
    fired = {("acme", f"fired/{NOVEMBER}/100", "100")}
    assert watched.occurred(BUDGET) == fired
    end_budget(engine=purse.engine, budget_id="fired", by="test", now=NOW)
    purse.set("fired", "100")
    assert watched.evaluate(BUDGET).occurrences == 0
    purse.set("silent", "100")
    assert watched.evaluate(BUDGET).occurrences == 1
    delete_alert(engine=purse.engine, alert_id=alert.alert_id, now=NOW)
    purse.set("new", "100")
    assert watched.evaluate(BUDGET).occurrences == 0


def test_adjustments_reach_a_threshold_and_credits_withdraw_nothing(watched: Watched, purse: Purse) -> None:
    purse.set("b", "100")
    watched.alert(BUDGET, 100, customer_id="acme")
    watched.use("acme", 90, NOW, name="s")
    assert watched.evaluate(BUDGET).occurrences == 0
    watched.credit("acme", "s", 10)
    assert watched.evaluate(BUDGET).occurrences == 1
    watched.credit("acme", "s", -60)
    assert purse.figures() == ("40", "0")
    watched.credit("acme", "s", 61)
    assert watched.evaluate(BUDGET).occurrences == 0
    newer = watched.alert(BUDGET, 101, 102, customer_id="acme")
    watched.evaluate(BUDGET)
    (one,) = watched.occurrences(alert_id=newer.alert_id)
    assert (one.data["threshold"], one.data["value"], one.data["spent_usd_cents"]) == ("101", "101", "101")


def test_windows_of_the_same_date_fire_each_after_the_time_zone_has_changed(
    watched: Watched, purse: Purse
) -> None:
    watched.customer("acme", "Europe/Berlin")
    purse.set("day", "10", window=BudgetWindow.DAY, now=NOW)
    watched.alert(BUDGET, 100, customer_id="acme")
    watched.use("acme", 10, NOW)
    berlin = ("acme", "day/2026-11-22T23:00Z/10", "100")
    assert watched.occurred(BUDGET) == {berlin}
    watched.customer("acme", "America/New_York")
    # The day of Berlin ends at 23:00 in UTC, when it is still the same day in New York.
    evening = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
    assert evening.astimezone(ZoneInfo("America/New_York")).date() == NOW.date()
    watched.use("acme", 10, evening)
    new_york = ("acme", "day/2026-11-23T23:00Z/10", "100")
    assert watched.occurred(BUDGET, evening + timedelta(minutes=5)) == {berlin, new_york}
    told = next(each.data for each in watched.occurrences() if each.alert_window == new_york[1])
    assert told["window"] == {
        "key": new_york[1],
        "starts_at": "2026-11-23T23:00:00Z",
        "ends_at": "2026-11-24T05:00:00Z",
        "time_zone": "America/New_York",
    }


def test_what_is_held_is_not_spent_and_is_in_the_message(watched: Watched, purse: Purse) -> None:
    purse.set("b", "4")
    alert = watched.alert(BUDGET, 25, 30, customer_id="acme", name="Team")
    purse.hold(asked("open"))
    watched.use("acme", 1, NOW)
    watched.evaluate(BUDGET)
    (one,) = watched.occurrences()
    assert one.data == {
        "occurrence_id": one.occurrence_id,
        "alert_id": alert.alert_id,
        "alert_version": 1,
        "name": "Team",
        "scope": "customer",
        "customer_id": "acme",
        "window": {
            "key": f"b/{NOVEMBER}/4",
            "starts_at": "2026-11-01T00:00:00Z",
            "ends_at": "2026-12-01T00:00:00Z",
            "time_zone": "UTC",
        },
        "threshold": "25",
        "value": "25",
        "unit": "percent_of_limit",
        "budget_id": "b",
        "limit_usd_cents": "4",
        "spent_usd_cents": "1",
        "held_usd_cents": "0.656",
        "headroom_usd_cents": "2.344",
        "resets_at": "2026-12-01T00:00:00Z",
    }


def test_what_is_held_now_is_not_held_in_a_window_that_is_over(watched: Watched, purse: Purse) -> None:
    purse.set("day", "10", window=BudgetWindow.DAY)
    watched.alert(BUDGET, 100, customer_id="acme")
    watched.use("acme", 10, NOW - DAY)
    purse.hold(asked("open"))
    purse.set("yesterday too", "10", window=BudgetWindow.DAY, now=NOW - DAY)
    watched.evaluate(BUDGET)
    (one,) = watched.occurrences()
    assert (one.data["budget_id"], one.data["held_usd_cents"]) == ("yesterday too", "0")


def test_a_limit_of_zero_is_reached_by_the_first_amount(watched: Watched, purse: Purse) -> None:
    purse.set("none", "0", action=BudgetAction.WARN)
    watched.alert(BUDGET, 50, 100, customer_id="acme")
    assert watched.evaluate(BUDGET).occurrences == 0
    watched.use("acme", Decimal("0.0025"), NOW)
    assert watched.evaluate(BUDGET).occurrences == 2
    assert {each.data["value"] for each in watched.occurrences()} == {None}


def test_a_prepaid_budget_is_watched_by_its_balance_and_not_here(watched: Watched, purse: Purse) -> None:
    purse.set("prepaid", None, window=BudgetWindow.PREPAID)
    watched.alert(BUDGET, "0.01", customer_id="acme")
    watched.use("acme", 10, NOW)
    assert watched.evaluate(BUDGET).occurrences == 0


def test_a_budget_for_all_time_does_not_fire_twice_however_old_its_occurrence_is(
    watched: Watched, purse: Purse
) -> None:
    purse.set("ever", "10", window=BudgetWindow.TOTAL)
    purse.set("month", "10")
    alert = watched.alert(BUDGET, 100, customer_id="acme")
    watched.use("acme", 10, NOW)
    assert watched.evaluate(BUDGET).occurrences == 2
    open_window = next(each.data["window"] for each in watched.occurrences() if each.data["budget_id"] == "ever")
    assert open_window == {"key": "ever/total/10", "starts_at": None, "ends_at": None, "time_zone": "UTC"}
    retention, later = timedelta(days=90), NOW + timedelta(days=100)
    assert prune_alert_log(engine=purse.engine, retention=retention, now=later) == 1
    assert watched.evaluate(BUDGET, later).occurrences == 0
    assert [each.alert_window for each in watched.occurrences()] == ["ever/total/10"]
    changes = AlertChanges(thresholds=[Decimal(90)])
    change_alert(engine=purse.engine, alert_id=alert.alert_id, changes=changes, now=later)
    assert prune_alert_log(engine=purse.engine, retention=retention, now=later) == 1
    assert watched.evaluate(BUDGET, later).occurrences == 1


_WINDOWS = {"day": timedelta(days=1), "month": timedelta(days=30)}


@pytest.mark.parametrize("seed", range(3))
def test_what_fires_is_what_fractions_say(watched: Watched, seed: int) -> None:
    """Random budgets with windows around now, against a comparison of fractions."""
    watched.customer("acme")
    rng = random.Random(seed)
    thresholds = (Decimal("33.333333"), Decimal(80), Decimal("99.999999"), Decimal(100))
    watched.alert(BUDGET, *map(str, thresholds))
    expected: set[tuple[str, str, str]] = set()
    reached: Counter[str] = Counter()
    for number in range(60):
        budget_id, window = f"b{number}", rng.choice(["day", "month"])
        limit = Decimal(rng.choice([3, 7, 30_000])) / rng.choice([1, 1000])
        is_ended = rng.random() < 0.1
        watched.execute(
            f"""
            INSERT INTO budgets (customer_id, budget_id, scope, budget_window, limit_usd_cents, action, version,
                                 created_at, counted_from, opened_at, ended_at)
            VALUES ('acme', '{budget_id}', 'customer', '{window}', {limit}, 'refuse', 1, now(), now(), now(),
                    {"now()" if is_ended else "NULL"})
            """
        )
        for ago in range(4):
            length = _WINDOWS[window]
            starts_at = NOW - rng.choice([timedelta(), timedelta(hours=5), length / 2]) - ago * length
            spent = limit * rng.choice([Decimal("0.33333333"), Decimal("0.8"), Decimal("0.99999999"), Decimal(1)])
            if watched.rows(
                f"SELECT FROM budget_windows WHERE budget_id = '{budget_id}'"
                f" AND starts_at < '{starts_at + length}' AND ends_at > '{starts_at}'"
            ):
                continue
            watched.execute(
                "INSERT INTO budget_windows (customer_id, budget_id, starts_at, ends_at, spent_usd_cents)"
                f" VALUES ('acme', '{budget_id}', '{starts_at}', '{starts_at + length}', {spent})"
            )
            is_watched = not is_ended and starts_at <= NOW and starts_at + length > NOW - DAY
            for threshold in thresholds:
                if is_watched and Fraction(spent) / Fraction(limit) * 100 >= Fraction(threshold):
                    key = f"{budget_id}/{starts_at:%Y-%m-%dT%H:%MZ}/{limit.normalize():f}"
                    expected.add(("acme", key, f"{threshold.normalize():f}"))
                    reached[f"{ago} windows ago"] += 1
    found = {(one, key, f"{Decimal(at).normalize():f}") for one, key, at in watched.occurred(BUDGET)}
    assert found == expected
    assert reached["0 windows ago"] > 20
    assert reached["1 windows ago"] > 5

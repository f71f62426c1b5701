"""Alerts about spend: each threshold of a budget once a month, exactly when it is reached, by any calendar."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.alerts.alerts import AlertKind, AlertScope
from metering.alerts.manage_alerts import AlertChanges, change_alert, delete_alert
from tests.alerts.watched import NOW, Watched

SPEND = AlertKind.SPEND
NOVEMBER = "2026-11"


def test_a_threshold_occurs_when_it_is_reached_to_the_last_digit_and_not_before(watched: Watched) -> None:
    watched.customer("acme")
    watched.alert(SPEND, 50, customer_id="acme", budget_usd_cents=200)
    watched.use("acme", Decimal("99.9975"), NOW)
    assert watched.occurred(SPEND) == set()
    watched.use("acme", Decimal("0.0025"), NOW)
    assert watched.occurred(SPEND) == {("acme", NOVEMBER, "50")}


def test_each_threshold_occurs_once_a_month_also_when_several_are_passed_at_once(watched: Watched) -> None:
    watched.customer("acme")
    watched.alert(SPEND, 50, 80, 100, customer_id="acme", budget_usd_cents=100)
    watched.use("acme", 60, NOW)
    assert watched.occurred(SPEND) == {("acme", NOVEMBER, "50")}
    watched.use("acme", 50, NOW)
    expected = {("acme", NOVEMBER, each) for each in ("50", "80", "100")}
    assert watched.occurred(SPEND) == expected
    assert watched.evaluate(SPEND).occurrences == 0
    assert len(watched.occurrences()) == 3
    december = datetime(2026, 12, 5, tzinfo=UTC)
    watched.use("acme", 50, december)
    assert watched.occurred(SPEND, december) == expected | {("acme", "2026-12", "50")}


def test_an_alert_watches_one_customer_or_each_or_all_together(watched: Watched) -> None:
    for customer_id in ("acme", "other"):
        watched.use(customer_id, 60, NOW)
    watched.alert(SPEND, 100, customer_id="acme", budget_usd_cents=60)
    each = watched.alert(SPEND, 100, budget_usd_cents=60)
    together = watched.alert(SPEND, 100, scope=AlertScope.DEPLOYMENT, budget_usd_cents=120)
    watched.alert(SPEND, 101, scope=AlertScope.DEPLOYMENT, budget_usd_cents=120)
    watched.evaluate(SPEND)
    assert len(watched.occurrences()) == 4
    assert {one.customer_id for one in watched.occurrences(alert_id=each.alert_id)} == {"acme", "other"}
    (one,) = watched.occurrences(alert_id=together.alert_id)
    assert (one.customer_id, one.data["customer_id"], one.data["spend_usd_cents"]) == ("", None, "120")


def test_a_drop_in_spend_withdraws_no_alert_and_the_next_rise_does_not_fire_twice(
    watched: Watched,
) -> None:
    watched.alert(SPEND, 100, budget_usd_cents=100)
    watched.use("acme", 100, NOW, name="s")
    assert len(watched.occurred(SPEND)) == 1
    watched.credit("acme", "s", -60)
    assert watched.evaluate(SPEND).occurrences == 0
    newer = watched.alert(SPEND, 41, 40, budget_usd_cents=100)
    watched.evaluate(SPEND)
    (one,) = watched.occurrences(alert_id=newer.alert_id)
    assert (str(one.threshold), one.data["spend_usd_cents"], one.data["value"]) == ("40", "40", "40")
    watched.use("acme", 60, NOW)
    assert watched.occurred(SPEND) == {("acme", NOVEMBER, each) for each in ("100", "40", "41")}
    assert len(watched.occurrences()) == 3


def test_other_terms_arm_an_alert_anew_and_another_name_does_not(watched: Watched) -> None:
    alert = watched.alert(SPEND, 100, budget_usd_cents=100)
    watched.use("acme", 250, NOW)
    watched.evaluate(SPEND)

    def change(**changes: object) -> int:
        given = AlertChanges(**changes)  # type: ignore[arg-type]
        change_alert(engine=watched.service.engine, alert_id=alert.alert_id, changes=given, now=NOW)
        return watched.evaluate(SPEND).occurrences

    assert change(name="better") == 0
    assert change(budget_usd_cents=Decimal(100)) == 0
    assert change(budget_usd_cents=Decimal(200)) == 1
    assert change(budget_usd_cents=Decimal(300)) == 0
    assert change(enabled=False, budget_usd_cents=Decimal(250)) == 0
    assert change(enabled=True) == 1
    assert {each.data["alert_version"] for each in watched.occurrences()} == {1, 2, 4}
    delete_alert(engine=watched.service.engine, alert_id=alert.alert_id, now=NOW)
    watched.use("later", 250, NOW)
    assert watched.evaluate(SPEND).occurrences == 0


# Where a month begins and ends by the customer's calendar: a moment before, and at it.
@pytest.mark.parametrize(
    ("time_zone", "begin"),
    [
        ("UTC", "2026-11-01T00:00:00+00:00"),
        ("Europe/Berlin", "2026-10-31T23:00:00+00:00"),
        ("America/New_York", "2026-11-01T04:00:00+00:00"),
        ("Asia/Kolkata", "2026-10-31T18:30:00+00:00"),
        ("Asia/Kathmandu", "2026-10-31T18:15:00+00:00"),
        ("America/St_Johns", "2026-11-01T02:30:00+00:00"),
        ("Pacific/Kiritimati", "2026-10-31T10:00:00+00:00"),
        ("Pacific/Pago_Pago", "2026-11-01T11:00:00+00:00"),
    ],
)
@pytest.mark.parametrize("pending", [True, False])
def test_a_month_is_the_customers_own(watched: Watched, time_zone: str, begin: str, pending: bool) -> None:
    watched.customer("acme", time_zone)
    alert = watched.alert(SPEND, 100, customer_id="acme", budget_usd_cents=10)
    at = datetime.fromisoformat(begin)
    watched.use("acme", 10, at - timedelta(microseconds=1), name="before")
    watched.use("acme", 5, at, name="first")
    watched.use("acme", 4, at + timedelta(minutes=29), name="second")
    if not pending:
        watched.check_totals()
    november = at + timedelta(days=12)
    assert watched.occurred(SPEND, november) == set()
    watched.use("acme", 1, at + timedelta(days=20), name="last")
    assert watched.occurred(SPEND, november) == {("acme", NOVEMBER, "100")}
    (one,) = watched.occurrences(alert_id=alert.alert_id)
    assert one.data["window"]["starts_at"] == begin.replace("+00:00", "Z")
    assert one.data["window"]["time_zone"] == time_zone


def test_what_settles_shortly_after_the_end_of_a_month_still_counts_for_it(watched: Watched) -> None:
    watched.alert(SPEND, 100, budget_usd_cents=10)
    end = datetime(2026, 12, 1, tzinfo=UTC)
    watched.use("acme", 10, end - timedelta(seconds=1))
    assert watched.occurred(SPEND, end + timedelta(hours=23)) == {("acme", NOVEMBER, "100")}
    watched.use("late", 10, end - timedelta(seconds=1))
    assert watched.evaluate(SPEND, end + timedelta(hours=25)).occurrences == 0


def test_the_message_is_exact_and_says_that_accrued_amounts_are_left_out(watched: Watched) -> None:
    watched.customer("acme")
    alert = watched.alert(SPEND, 50, customer_id="acme", budget_usd_cents="99.999", name="budget")
    watched.use("acme", Decimal("66.6675"), NOW)
    watched.evaluate(SPEND, NOW)
    (one,) = watched.occurrences()
    assert one.data == {
        "occurrence_id": one.occurrence_id,
        "alert_id": alert.alert_id,
        "alert_version": 1,
        "name": "budget",
        "scope": "customer",
        "customer_id": "acme",
        "window": {
            "key": NOVEMBER,
            "starts_at": "2026-11-01T00:00:00Z",
            "ends_at": "2026-12-01T00:00:00Z",
            "time_zone": "UTC",
        },
        "threshold": "50",
        "value": "66.66",
        "unit": "percent_of_budget",
        "spend_usd_cents": "66.6675",
        "budget_usd_cents": "99.999",
        "accrued_included": False,
    }

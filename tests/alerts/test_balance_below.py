"""Alerts about prepaid balances: once when what is left falls to a threshold, and again after the next grant."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from psycopg import errors

from metering.alerts.alerts import AlertKind, AlertScope, InvalidAlertError
from metering.alerts.evaluate_alerts import prune_alert_log
from metering.credits.create_grant import activate
from metering.credits.end_grant import lock_grant, refund_grant, void_grant
from metering.credits.grant import Funding, Grant, GrantLimits
from metering.db.engine import transaction
from tests.alerts.watched import NOW, Watched
from tests.builders.budgets import Purse, asked
from tests.credits.scenes import give

BELOW = AlertKind.BALANCE_BELOW
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Grants pay for what is booked from then on; `Watched.use` books a minute after NOW.
THEN = NOW + timedelta(minutes=1)
LIMITED = GrantLimits(models=("claude-opus-4.7",))


def grant(watched: Watched, amount: str, key: str = "first", **terms: Any) -> Grant:
    return give(watched, amount, key=key, at=terms.pop("at", NOW), **terms)


def test_it_fires_when_the_balance_falls_to_the_threshold_and_not_before(watched: Watched) -> None:
    grant(watched, "100")
    watched.alert(BELOW, 20, 0, customer_id="acme")
    assert watched.occurred(BELOW) == set()
    watched.use("acme", Decimal("79.9975"), NOW)
    assert watched.occurred(BELOW, THEN) == set()
    watched.use("acme", Decimal("0.0025"), NOW)
    assert watched.occurred(BELOW, THEN) == {("acme", "grants/1", "20")}
    watched.use("acme", 30, NOW)
    assert watched.occurred(BELOW, THEN) == {("acme", "grants/1", each) for each in ("20", "0")}
    assert watched.evaluate(BELOW, THEN).occurrences == 0


def test_a_top_up_arms_it_again(watched: Watched) -> None:
    grant(watched, "30")
    watched.alert(BELOW, 20, customer_id="acme")
    watched.use("acme", 15, NOW)
    assert watched.occurred(BELOW, THEN) == {("acme", "grants/1", "20")}
    grant(watched, "30", "second")
    assert watched.evaluate(BELOW, THEN).occurrences == 0
    watched.use("acme", 26, NOW)
    assert watched.occurred(BELOW, THEN) == {("acme", f"grants/{each}", "20") for each in (1, 2)}
    # One that leaves the balance below the threshold says so.
    grant(watched, "0.01", "too small")
    assert ("acme", "grants/3", "20") in watched.occurred(BELOW, THEN)


def test_a_grant_counts_from_the_moment_at_which_it_is_paid_and_effective(watched: Watched) -> None:
    grant(watched, "10")
    watched.alert(BELOW, 50, customer_id="acme")
    assert watched.occurred(BELOW) == {("acme", "grants/1", "50")}
    pending = grant(watched, "100", "pending", paid=100, funding=Funding.INVOICE)
    grant(watched, "10", "later", effective_from=NOW + DAY)
    grant(watched, "10", "second")
    assert watched.occurred(BELOW) == {("acme", f"grants/{each}", "50") for each in (1, 2)}
    with transaction(watched.service.engine) as connection:
        activate(connection, lock_grant(connection, pending.grant_id, now=NOW), now=NOW)
    assert watched.evaluate(BELOW).occurrences == 0
    watched.use("acme", 80, NOW)
    assert ("acme", "grants/3", "50") in watched.occurred(BELOW, THEN)
    assert watched.evaluate(BELOW, NOW + HOUR).occurrences == 0
    assert ("acme", "grants/4", "50") in watched.occurred(BELOW, NOW + DAY)


def test_a_restored_draw_withdraws_nothing_and_arms_nothing(watched: Watched) -> None:
    grant(watched, "100")
    watched.alert(BELOW, 20, customer_id="acme")
    watched.use("acme", 90, NOW, name="s")
    assert watched.evaluate(BELOW, THEN).occurrences == 1
    watched.credit("acme", "s", -80)
    assert watched.evaluate(BELOW, THEN).occurrences == 0
    newer = watched.alert(BELOW, 89, 90, customer_id="acme")
    watched.evaluate(BELOW, THEN)
    assert [each.data["value"] for each in watched.occurrences(alert_id=newer.alert_id)] == ["90"]
    watched.use("acme", 80, NOW)
    watched.evaluate(BELOW, THEN)
    assert len(watched.occurrences()) == 3


def test_expired_money_is_no_balance_though_nothing_has_booked_its_expiry(watched: Watched) -> None:
    grant(watched, "100", expires_at=NOW + HOUR)
    watched.alert(BELOW, 0, customer_id="acme")
    assert watched.evaluate(BELOW, NOW + HOUR - timedelta(microseconds=1)).occurrences == 0
    assert watched.occurred(BELOW, NOW + HOUR) == {("acme", "grants/1", "0")}
    assert watched.rows("SELECT balance_usd_cents FROM grants") == [(Decimal(100),)]


@pytest.mark.parametrize("ends", ["void", "refund"])
def test_a_grant_that_is_taken_back_is_no_balance(watched: Watched, ends: str) -> None:
    made = grant(watched, "100", paid=100)
    watched.alert(BELOW, 0, customer_id="acme")
    assert watched.evaluate(BELOW).occurrences == 0
    taken: dict[str, Any] = {"engine": watched.service.engine, "grant_id": made.grant_id, "by": "test", "now": NOW}
    if ends == "void":
        void_grant(**taken, reason="test")
    else:
        refund_grant(**taken, reason="test", idempotency_key="once", usd_cents=None)
    assert watched.occurred(BELOW) == {("acme", "grants/1", "0")}


def test_only_customers_who_have_had_a_grant_for_every_model_are_watched(watched: Watched) -> None:
    for customer_id in ("never", "limited", "unpaid", "later", "spent"):
        watched.customer(customer_id)
    watched.use("never", 10, NOW)
    grant(watched, "100", "limited", customer_id="limited", limits=LIMITED)
    grant(watched, "100", "unpaid", customer_id="unpaid", paid=100, funding=Funding.INVOICE)
    grant(watched, "100", "later", customer_id="later", effective_from=NOW + DAY)
    grant(watched, "5", "spent", customer_id="spent")
    watched.use("spent", 10, NOW)
    watched.alert(BELOW, 50)
    assert watched.occurred(BELOW, THEN) == {("spent", "grants/1", "50")}


def test_an_alert_of_one_customer_says_nothing_of_others(watched: Watched) -> None:
    watched.customer("bolt")
    grant(watched, "10")
    grant(watched, "10", "bolt", customer_id="bolt")
    watched.alert(BELOW, 50, customer_id="bolt")
    assert watched.occurred(BELOW) == {("bolt", "grants/1", "50")}


def test_balances_are_not_added_up(watched: Watched) -> None:
    with pytest.raises(
        InvalidAlertError, match="scope: expected customer or each_customer for kind balance_below"
    ):
        watched.alert(BELOW, 50, scope=AlertScope.DEPLOYMENT)
    watched.alert(BELOW, 50)
    with pytest.raises(errors.CheckViolation):
        watched.execute("UPDATE alerts SET scope = 'deployment'")


def test_the_message_has_the_figures_of_the_balance(watched: Watched) -> None:
    watched.customer("acme", "Europe/Berlin")
    grant(watched, "30")
    grant(watched, "7", "limited", limits=LIMITED, priority=900)
    Purse(watched.service).hold(asked("open"))
    alert = watched.alert(BELOW, 50, customer_id="acme", name="Low")
    watched.evaluate(BELOW)
    (one,) = watched.occurrences()
    assert one.data == {
        "occurrence_id": one.occurrence_id,
        "alert_id": alert.alert_id,
        "alert_version": 1,
        "name": "Low",
        "scope": "customer",
        "customer_id": "acme",
        "window": {"key": "grants/1", "starts_at": None, "ends_at": None, "time_zone": "Europe/Berlin"},
        "threshold": "50",
        "value": "30",
        "unit": "usd_cents",
        "balance_usd_cents": "37",
        "limited_usd_cents": "7",
        "held_usd_cents": "0.656",
        "available_usd_cents": "29.344",
        "grant_count": 1,
    }


def test_it_does_not_fire_twice_however_old_its_occurrence_is_and_what_is_superseded_goes(
    watched: Watched,
) -> None:
    grant(watched, "10")
    watched.alert(BELOW, 50, customer_id="acme")
    assert watched.evaluate(BELOW).occurrences == 1
    later = NOW + timedelta(days=100)

    def prune() -> int:
        return prune_alert_log(engine=watched.service.engine, retention=timedelta(days=90), now=later)

    assert prune() == 0
    assert watched.evaluate(BELOW, later).occurrences == 0
    grant(watched, "10", "second", at=later)
    assert watched.evaluate(BELOW, later).occurrences == 1
    assert prune() == 1
    assert [each.alert_window for each in watched.occurrences()] == ["grants/2"]
    assert watched.evaluate(BELOW, later).occurrences == 0

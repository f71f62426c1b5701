"""Alerts about estimates, about cents that Stripe has otherwise, and about streams that wait for a person."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.alerts.alerts import AlertKind, AlertScope
from metering.db.engine import transaction
from metering.events.events import UsageSource
from metering.stripe.drift import DriftClass, Finding, Remedy
from metering.stripe.store.reconciliations import (
    FoundDrift,
    add_findings,
    finish_reconciliation,
    record_repair,
    start_reconciliation,
)
from tests.alerts.watched import NOW, Watched
from tests.builders import end, start

SHARE, DRIFT, BACKLOG = AlertKind.ESTIMATED_SHARE, AlertKind.DRIFT, AlertKind.BACKLOG_AGE


@pytest.mark.parametrize(("estimated", "reached"), [("9.9975", False), ("10", True)])
def test_a_share_is_reached_exactly_and_counts_estimates_and_abandoned_streams_once_each(
    watched: Watched, estimated: str, reached: bool
) -> None:
    alert = watched.alert(SHARE, 20, floor_usd_cents=50)
    watched.use("acme", 40 + 10 - Decimal(estimated), NOW)
    watched.use("acme", 4, NOW, usage_source=UsageSource.ESTIMATE)
    watched.abandon("acme", 1, NOW)
    watched.use("acme", Decimal(estimated) - 5, NOW, usage_source=UsageSource.ESTIMATE, name="more")
    watched.evaluate(SHARE)
    told = [one.data for one in watched.occurrences(alert_id=alert.alert_id)]
    assert [each["window"]["key"] for each in told] == (["2026-11"] if reached else [])
    if reached:
        assert (told[0]["estimated_usd_cents"], told[0]["total_usd_cents"], told[0]["value"]) == ("10", "50", "20")


def test_a_share_below_the_floor_does_not_fire(watched: Watched) -> None:
    watched.alert(SHARE, 1, floor_usd_cents=50)
    watched.alert(SHARE, 1, floor_usd_cents=60, scope=AlertScope.DEPLOYMENT)
    watched.use("acme", Decimal("49.9975"), NOW, usage_source=UsageSource.ESTIMATE)
    assert watched.occurred(SHARE) == set()
    watched.use("other", Decimal("10.0025"), NOW)
    assert watched.occurred(SHARE) == {("", "2026-11", "1")}
    (one,) = watched.occurrences()
    assert one.data["value"] == "83.32"


def reconcile(watched: Watched, *findings: tuple[str | None, int], at: datetime = NOW, repaired: int = 0) -> str:
    """A finished reconciliation that found these cents, the first of which it repaired."""
    with transaction(watched.service.engine) as connection:
        made = start_reconciliation(connection, period="2026-10", repair=False, requested_by="test", now=at)
        found = [
            FoundDrift(
                number=number,
                customer_id=customer_id,
                invoice_id=None,
                period="2026-10",
                finding=Finding(drift_class=DriftClass.AMOUNT, remedy=Remedy.REPORT, detail="test", cents=cents),
            )
            for number, (customer_id, cents) in enumerate(findings)
        ]
        add_findings(connection, made, found, now=at)
        record_repair(connection, made, list(range(repaired)), repair="test", repaired_at=at)
        finish_reconciliation(
            connection, made, compared=1, ours_cents=0, theirs_cents=0, problem=None, now=at + timedelta(minutes=1)
        )
    return made


def test_drift_fires_once_a_reconciliation_and_repaired_drift_does_not(watched: Watched) -> None:
    watched.alert(DRIFT, 100, scope=AlertScope.DEPLOYMENT)
    watched.alert(DRIFT, 50)
    later = NOW + timedelta(minutes=5)
    assert watched.occurred(DRIFT, later) == set()
    first = reconcile(watched, ("acme", 500), ("acme", 30), ("acme", -20), ("other", -49), (None, 1), repaired=1)
    assert watched.occurred(DRIFT, later) == {("", first, "100"), ("acme", first, "50")}
    together = next(one.data for one in watched.occurrences() if one.customer_id == "")
    assert (together["drift_usd_cents"], together["finding_count"], together["value"]) == ("100", 4, "100")
    assert watched.evaluate(DRIFT, later).occurrences == 0
    second = reconcile(watched, ("acme", 49), at=NOW + timedelta(hours=1))
    assert watched.evaluate(DRIFT, NOW + timedelta(hours=2)).occurrences == 0
    third = reconcile(watched, ("acme", 50), at=NOW + timedelta(hours=3))
    assert ("acme", third, "50") in watched.occurred(DRIFT, NOW + timedelta(hours=4))
    assert second not in {one.alert_window for one in watched.occurrences()}


def test_a_threshold_of_zero_fires_on_any_finding_and_an_old_reconciliation_never_fires(
    watched: Watched,
) -> None:
    watched.alert(DRIFT, 0)
    made = reconcile(watched, ("acme", 0))
    assert watched.evaluate(DRIFT, NOW + timedelta(days=32)).occurrences == 0
    assert watched.occurred(DRIFT, NOW + timedelta(hours=1)) == {("acme", made, "0")}
    reconcile(watched, at=NOW + timedelta(hours=2))
    assert watched.evaluate(DRIFT, NOW + timedelta(hours=3)).occurrences == 0


def test_the_age_of_the_oldest_stream_that_needs_a_person_fires_once_a_day(watched: Watched) -> None:
    watched.alert(BACKLOG, "1.5", "24")
    watched.alert(BACKLOG, "1.5", scope=AlertScope.DEPLOYMENT)
    watched.use("fine", 5, NOW)
    for minutes, stream_id in ((0, "old"), (10, "newer")):
        at = NOW + timedelta(minutes=minutes)
        watched.receive([start(stream_id, model="own-1", provider="house"), end(stream_id)], at=at)
        watched.finalize(now=at)
    half_past = NOW + timedelta(minutes=90)
    assert watched.occurred(BACKLOG, half_past - timedelta(microseconds=1)) == set()
    today = {("acme", "2026-11-23", "1.5"), ("", "2026-11-23", "1.5")}
    assert watched.occurred(BACKLOG, half_past) == today
    told = next(one.data for one in watched.occurrences() if one.customer_id == "acme")
    assert (told["stream_count"], told["oldest_since"], told["value"]) == (2, "2026-11-23T15:30:00Z", "1.5")
    assert watched.evaluate(BACKLOG, half_past + timedelta(hours=1)).occurrences == 0
    tomorrow = datetime(2026, 11, 24, 16, tzinfo=UTC)
    day = tomorrow.date().isoformat()
    expected = {("acme", day, "1.5"), ("acme", day, "24"), ("", day, "1.5")}
    assert watched.occurred(BACKLOG, tomorrow) == today | expected

"""Evaluation: due by the clock that is given, by one worker at a time, and never telling twice whoever does it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from metering.alerts.alerts import (
    MAX_ALERTS_PER_CUSTOMER,
    AlertKind,
    AlertScope,
    AlertTerms,
    InvalidAlertError,
    check_terms,
)
from metering.alerts.evaluate_alerts import evaluate_alerts, prune_alert_log
from metering.alerts.manage_alerts import TooManyAlertsError
from metering.alerts.messages import occurrence_of
from metering.alerts.queries.crossings import find_crossings
from metering.alerts.store.alerts import add_occurrences
from metering.customers.store import UnknownCustomerError
from metering.db.engine import transaction
from tests.alerts.watched import EVERY, NOW, Watched

SPEND = AlertKind.SPEND


def test_a_kind_is_evaluated_when_it_is_due_and_not_sooner(watched: Watched) -> None:
    def looked_at(after: timedelta) -> bool:
        return evaluate_alerts(engine=watched.service.engine, kind=SPEND, every=EVERY, now=NOW + after) is not None

    assert looked_at(timedelta())
    assert not looked_at(EVERY - timedelta(microseconds=1))
    assert looked_at(EVERY)
    assert not looked_at(EVERY)


def test_a_kind_that_another_worker_evaluates_is_passed_over(watched: Watched) -> None:
    with transaction(watched.service.engine) as connection:
        connection.execute(text("SELECT FROM alert_evaluations WHERE kind = 'spend' FOR UPDATE"))
        assert evaluate_alerts(engine=watched.service.engine, kind=SPEND, every=EVERY, now=NOW) is None
        other = evaluate_alerts(engine=watched.service.engine, kind=AlertKind.DRIFT, every=EVERY, now=NOW)
        assert other is not None


def test_two_that_find_the_same_at_once_keep_it_once(watched: Watched) -> None:
    """Without any turn to take: what keeps it once is the key."""
    names = [f"c{number:02d}" for number in range(20)]
    for name in names:
        watched.use(name, 10, NOW)
    watched.alert(SPEND, 50, 100, budget_usd_cents=10)
    both = threading.Barrier(2)

    def find_and_keep(_: int) -> int:
        with transaction(watched.service.engine) as connection:
            found = find_crossings(connection, kind=SPEND, now=NOW, limit=1000)
            assert len(found) == 40
            both.wait(timeout=60)
            return len(add_occurrences(connection, [occurrence_of(each, now=NOW) for each in found]))

    with ThreadPoolExecutor(2) as pool:
        kept = list(pool.map(find_and_keep, range(2)))
    assert sorted(kept) == [0, 40]
    assert len(watched.occurrences()) == 40


def test_many_workers_at_once_notify_each_endpoint_once(watched: Watched) -> None:
    for number in range(30):
        watched.use(f"c{number:02d}", 10, NOW)
    watched.alert(SPEND, 100, budget_usd_cents=10)
    watched.endpoint()
    watched.endpoint()

    def work(_: int) -> list[int]:
        told = []
        for _ in range(60):
            at_once = timedelta()
            found = evaluate_alerts(engine=watched.service.engine, kind=SPEND, every=at_once, now=NOW, limit=3)
            told.append(found.occurrences if found else 0)
            time.sleep(0.01)
        return told

    with ThreadPoolExecutor(4) as pool:
        told = [each for of_worker in pool.map(work, range(4)) for each in of_worker]
    assert sum(told) == 30
    assert sum(1 for each in told if each) >= 10
    assert watched.rows("SELECT count(*), count(DISTINCT message_id) FROM webhook_deliveries") == [(60, 30)]


def test_what_is_beyond_a_bound_is_found_by_the_next_look_which_is_due_at_once(watched: Watched) -> None:
    for number in range(5):
        watched.use(f"c{number}", 10, NOW)
    watched.alert(SPEND, 100, budget_usd_cents=10)
    found = watched.evaluate(SPEND, limit=2)
    assert (found.occurrences, found.more) == (2, True)
    again = evaluate_alerts(engine=watched.service.engine, kind=SPEND, every=EVERY, now=NOW, limit=3)
    assert again is not None
    assert again.occurrences == 3


def test_a_customer_has_so_many_alerts_and_no_more(watched: Watched) -> None:
    watched.customer("acme")
    for _ in range(MAX_ALERTS_PER_CUSTOMER):
        watched.alert(SPEND, 100, customer_id="acme", budget_usd_cents=10)
    with pytest.raises(TooManyAlertsError, match="20 alerts for customer 'acme'"):
        watched.alert(SPEND, 100, customer_id="acme", budget_usd_cents=10)
    watched.alert(SPEND, 100, budget_usd_cents=10)
    with pytest.raises(UnknownCustomerError):
        watched.alert(SPEND, 100, customer_id="nobody", budget_usd_cents=10)


def test_what_is_past_its_retention_goes_a_bounded_number_at_a_time(watched: Watched) -> None:
    for number in range(3):
        watched.use(f"c{number}", 10, NOW)
    watched.alert(SPEND, 100, budget_usd_cents=10)
    watched.endpoint()
    watched.evaluate(SPEND)

    def let_go(after: timedelta) -> int:
        return prune_alert_log(engine=watched.service.engine, retention=timedelta(days=90), now=NOW + after)

    assert let_go(timedelta(days=90)) == 0
    assert let_go(timedelta(days=90, seconds=1)) == 6
    assert watched.occurrences() == []
    assert watched.rows("SELECT count(*) FROM webhook_deliveries") == [(0,)]


def terms(kind: AlertKind, *thresholds: str, **given: object) -> AlertTerms:
    return AlertTerms(
        kind=kind,
        scope=AlertScope.DEPLOYMENT,
        customer_id=None,
        thresholds=tuple(map(Decimal, thresholds)),
        **given,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (terms(SPEND, "100"), "budget_usd_cents: required for kind spend"),
        (terms(SPEND, "100", budget_usd_cents=Decimal(0)), "budget_usd_cents: expected cents above 0"),
        (terms(SPEND, budget_usd_cents=Decimal(1)), "thresholds: expected 1 to 10 values, got 0"),
        (terms(SPEND, "1", "1.0", budget_usd_cents=Decimal(1)), "thresholds: expected each value once"),
        (terms(SPEND, "NaN", budget_usd_cents=Decimal(1)), "thresholds: expected percent_of_budget from"),
        (terms(SPEND, "1", budget_usd_cents=Decimal("Infinity")), "budget_usd_cents: expected cents above 0"),
        (terms(SPEND, "sNaN", budget_usd_cents=Decimal(1)), "thresholds: expected percent_of_budget from"),
        (terms(SPEND, "1", budget_usd_cents=Decimal("1e999")), "budget_usd_cents: expected cents above 0"),
        (terms(AlertKind.DRIFT, "-1"), "thresholds: expected usd_cents from 0"),
        (
            terms(AlertKind.DRIFT, "1", floor_usd_cents=Decimal(1)),
            "floor_usd_cents: not allowed for kind drift",
        ),
        (terms(AlertKind.DAILY_CHANGE, "0", floor_usd_cents=Decimal(0), trailing_days=7), "except 0, got 0"),
        (
            terms(AlertKind.DAILY_CHANGE, "5", floor_usd_cents=Decimal(0), trailing_days=32),
            "trailing_days: expected",
        ),
        (
            terms(AlertKind.DAILY_CHANGE, "5", floor_usd_cents=Decimal(-1), trailing_days=7),
            "floor_usd_cents: expected",
        ),
        (terms(AlertKind.ESTIMATED_SHARE, "101", floor_usd_cents=Decimal(0)), "from 0.01 to 100, got 101"),
    ],
)
def test_terms_that_make_no_sense_are_refused_by_the_name_of_the_field(refused: AlertTerms, says: str) -> None:
    with pytest.raises(InvalidAlertError, match=says.replace("(", r"\(")):
        check_terms(refused)

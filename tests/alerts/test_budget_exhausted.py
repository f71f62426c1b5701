"""The webhook `budget.exhausted`: once for each budget, window and limit, whoever watches it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from standardwebhooks import Webhook

from metering.alerts.announce_budgets import announce_exhausted
from metering.alerts.evaluate_alerts import prune_alert_log
from metering.budgets.budget import BudgetAction, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.set_budget import end_budget
from metering.core.clock import utc_now
from tests.alerts.receivers import Receiver
from tests.alerts.sending import Sending
from tests.alerts.watched import EVERY, NOW, Watched
from tests.builders.budgets import Purse, asked

EXHAUSTED = "budget.exhausted"
DAY = timedelta(days=1)
EVERYTHING = BudgetScope(ScopeKind.DEPLOYMENT)


@pytest.fixture
def purse(watched: Watched) -> Purse:
    watched.endpoint()
    return Purse(watched.service)


def told(watched: Watched, now: datetime = NOW) -> list[str]:
    """Announce, and the budgets of all messages so far."""
    watched.announce_exhausted(now)
    return [each["budget_id"] for each in watched.messages(EXHAUSTED)]


def test_the_message_is_received_once_when_the_last_digit_of_the_limit_is_spent(
    watched: Watched, receiver: Receiver
) -> None:
    sending = Sending(watched, clock=utc_now)
    _, secret = watched.endpoint(receiver.url, types=[EXHAUSTED])
    purse = Purse(watched.service)
    purse.set("b", "10", action=BudgetAction.WARN)
    watched.use("acme", Decimal("9.9975"), NOW)
    assert watched.announce_exhausted().messages == 0
    watched.use("acme", Decimal("0.0025"), NOW)
    purse.hold(asked("open"))
    found = watched.announce_exhausted()
    assert (found.messages, found.deliveries, found.more) == (1, 1, False)
    assert sending.send_all() == 1
    (request,) = receiver.received
    message = Webhook(secret).verify(request.body, dict(request.headers))
    assert message == {
        "type": EXHAUSTED,
        "timestamp": "2026-11-23T15:30:00Z",
        "version": 1,
        "data": {
            "customer_id": "acme",
            "action": "warn",
            "window_starts_at": "2026-11-01T00:00:00Z",
            "budget_id": "b",
            "limit_usd_cents": "10",
            "spent_usd_cents": "10",
            "held_usd_cents": "0.656",
            "headroom_usd_cents": "-0.656",
            "resets_at": "2026-12-01T00:00:00Z",
        },
    }
    watched.use("acme", 5, NOW)
    assert watched.announce_exhausted().messages == 0
    assert sending.send_all() == 0


def test_each_budget_is_announced_in_each_window_and_after_a_changed_limit(watched: Watched, purse: Purse) -> None:
    purse.set("day", "10", window=BudgetWindow.DAY)
    purse.set("month", "30")
    purse.set("all", "1000", scope=EVERYTHING)
    watched.use("acme", 20, NOW)
    assert told(watched) == ["day"]
    watched.use("acme", 20, NOW + DAY)
    assert sorted(told(watched, NOW + DAY)) == ["day", "day", "month"]
    purse.set("month", "40", now=NOW + DAY)
    assert sorted(told(watched, NOW + DAY)) == ["day", "day", "month", "month"]
    purse.set("month", "40", action=BudgetAction.WARN, now=NOW + DAY)
    purse.set("all", "40", scope=EVERYTHING, now=NOW + DAY)
    assert sorted(told(watched, NOW + DAY)) == ["all", "day", "day", "month", "month"]
    (of_deployment,) = [each for each in watched.messages(EXHAUSTED) if each["budget_id"] == "all"]
    assert of_deployment["customer_id"] is None
    assert watched.announce_exhausted(NOW + DAY).messages == 0


def test_an_ended_a_prepaid_and_an_empty_budget_of_zero_are_not_announced(watched: Watched, purse: Purse) -> None:
    purse.set("ended", "1")
    purse.set("prepaid", None, window=BudgetWindow.PREPAID)
    purse.set("nothing", "0", scope=BudgetScope(ScopeKind.API_KEY, "acme", "k"))
    end_budget(engine=purse.engine, budget_id="ended", by="test", now=NOW)
    watched.use("acme", 20, NOW)
    assert told(watched) == []
    watched.use("acme", 1, NOW, started={"api_key_id": "k"})
    assert told(watched) == ["nothing"]


def test_what_was_exhausted_before_an_endpoint_was_made_is_not_sent_to_it(watched: Watched) -> None:
    Purse(watched.service).set("b", "10")
    watched.use("acme", 20, NOW)
    assert watched.announce_exhausted().messages == 1
    watched.endpoint()
    assert watched.announce_exhausted().messages == 0
    assert watched.messages(EXHAUSTED) == []


def test_many_workers_at_once_announce_each_budget_once(watched: Watched, purse: Purse) -> None:
    for number in range(20):
        watched.customer(f"c{number}")
        purse.set(f"b{number}", "1", scope=BudgetScope(ScopeKind.CUSTOMER, f"c{number}"))
        watched.use(f"c{number}", 1, NOW)

    def work(_: int) -> int:
        messages, more = 0, True
        while more:
            # None while another one is at it.
            found = announce_exhausted(engine=watched.service.engine, every=timedelta(), now=NOW, limit=3)
            if found is not None:
                messages, more = messages + found.messages, found.more
        return messages

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 20
    assert watched.rows("SELECT count(*), count(DISTINCT message_id) FROM webhook_deliveries") == [(20, 20)]


def test_it_is_looked_at_when_it_is_due_and_what_is_beyond_a_bound_is_due_at_once(
    watched: Watched, purse: Purse
) -> None:
    for number in range(3):
        purse.set(f"b{number}", "1")
    watched.use("acme", 1, NOW)

    def look(after: timedelta, limit: int = 2) -> tuple[int, bool] | None:
        found = announce_exhausted(engine=purse.engine, every=EVERY, now=NOW + after, limit=limit)
        return None if found is None else (found.messages, found.more)

    assert look(timedelta()) == (2, True)
    assert look(timedelta()) == (1, False)
    assert look(EVERY - timedelta(microseconds=1)) is None
    assert look(EVERY) == (0, False)


def test_what_was_announced_is_forgotten_only_after_its_window_is_over(watched: Watched, purse: Purse) -> None:
    purse.set("ever", "10", window=BudgetWindow.TOTAL)
    purse.set("month", "10")
    watched.use("acme", 10, NOW)
    assert sorted(told(watched)) == ["ever", "month"]
    end = datetime(2026, 12, 1, tzinfo=UTC) + timedelta(days=90)

    def kept(now: datetime) -> set[str]:
        prune_alert_log(engine=purse.engine, retention=timedelta(days=90), now=now)
        return {key for (key,) in watched.rows("SELECT alert_window FROM exhausted_budgets")}

    assert kept(end) == {"ever/total/10", "month/2026-11-01T00:00Z/10"}
    later = end + timedelta(seconds=1)
    assert kept(later) == {"ever/total/10"}
    assert watched.announce_exhausted(later).messages == 0

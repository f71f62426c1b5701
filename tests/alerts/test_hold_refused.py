"""The webhook `hold.refused`: one message for each budget and minute, however many holds were refused."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event
from standardwebhooks import Webhook

from metering.alerts.announce_budgets import announce_refusals
from metering.budgets.admission import BudgetExhaustedError
from metering.budgets.budget import BudgetAction, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.holds import Hold
from metering.core.clock import utc_now
from tests.alerts.receivers import Receiver
from tests.alerts.sending import Sending
from tests.alerts.watched import EVERY, NOW, Watched
from tests.builders.budgets import Purse, asked
from tests.credits.scenes import give
from tests.running_api import Api

REFUSED = "hold.refused"
MINUTE = timedelta(minutes=1)
# When the minute of NOW is announced.
OVER = NOW + MINUTE + timedelta(seconds=2)
EVERYTHING = BudgetScope(ScopeKind.DEPLOYMENT)


@pytest.fixture
def purse(watched: Watched) -> Purse:
    watched.endpoint()
    return Purse(watched.service)


def refuse(purse: Purse, count: int = 1, now: datetime = NOW, name: str = "s", **changes: Any) -> None:
    """Ask for so many holds that are refused, as one group."""
    answers = purse.ask(*(asked(f"{name}{number}", **changes) for number in range(count)), now=now)
    assert all(isinstance(answer, BudgetExhaustedError) for answer in answers)


def counts(watched: Watched) -> list[tuple[str, int]]:
    """(budget, refused holds) of each message so far, in their order."""
    return sorted((each["budget_id"], each["refusal_count"]) for each in watched.messages(REFUSED))


@contextmanager
def statements(engine: Engine) -> Iterator[Counter[str]]:
    """How often each kind of statement about refusals runs."""
    found: Counter[str] = Counter()

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "hold_refusals" in statement:
            found[statement.split()[0]] += 1

    event.listen(engine, "before_cursor_execute", count)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", count)


def test_a_burst_over_http_is_received_as_one_message_a_minute_that_counts_every_refusal(
    api: Api, watched: Watched, receiver: Receiver
) -> None:
    # The minute is over.
    sending = Sending(watched, clock=lambda: utc_now() + 2 * MINUTE)
    _, secret = watched.endpoint(receiver.url, types=[REFUSED])
    watched.customer("acme")
    budget = {"scope": {"customer_id": "acme"}, "window": "day", "limit_usd_cents": "0.5"}
    assert api.client.put("/v1/budgets/small", json=budget).status_code == 200
    body = {"customer_id": "acme", "provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812}

    def ask(number: int) -> int:
        given = {**body, "stream_id": f"s{number}", "max_output_tokens": 100}
        return api.client.post("/v1/holds", json=given).status_code

    with ThreadPoolExecutor(16) as pool:
        assert Counter(pool.map(ask, range(400))) == {402: 400}
    found = watched.announce_refusals(utc_now() + 2 * MINUTE)
    # More than one only if the burst went on into another minute.
    minutes = {each["minute"] for each in watched.messages(REFUSED)}
    assert found.messages == len(minutes) < 20
    assert sending.send_all() == len(minutes) == len(receiver.received)
    data = []
    for request in receiver.received:
        message = Webhook(secret).verify(request.body, dict(request.headers))
        assert message["type"] == REFUSED
        data.append(message["data"])
    assert sum(each["refusal_count"] for each in data) == 400
    expected = {
        "customer_id": "acme",
        "provider": "anthropic",
        "model": "claude-opus-4.7",
        "needed_usd_cents": "0.656",
        "budget_id": "small",
        "limit_usd_cents": "0.5",
        "spent_usd_cents": "0",
        "held_usd_cents": "0",
        "headroom_usd_cents": "0.5",
    }
    for each in data:
        assert {name: each[name] for name in expected} == expected
        assert each["stream_id"].startswith("s")
        assert each["resets_at"].endswith("Z")
    assert watched.announce_refusals(utc_now() + 4 * MINUTE).messages == 0


def test_a_group_that_refuses_writes_once_and_one_that_does_not_writes_nothing(purse: Purse) -> None:
    purse.set("b", "1")
    with statements(purse.engine) as ran:
        purse.hold(asked("fits"))
    assert ran == {}
    purse.set("other", "1", scope=BudgetScope(ScopeKind.API_KEY, "acme", "k"))
    with statements(purse.engine) as ran:
        answers = purse.ask(
            *(asked(f"s{number}", api_key_id="k" if number % 2 else None) for number in range(500))
        )
    assert all(isinstance(answer, BudgetExhaustedError) for answer in answers)
    assert ran == {"INSERT": 1}


def test_each_budget_and_each_minute_has_a_message_with_its_first_refusal(watched: Watched, purse: Purse) -> None:
    purse.set("b", "0.5")
    purse.set("key", "0.4", scope=BudgetScope(ScopeKind.API_KEY, "acme", "k"))
    refuse(purse, 3, name="first")
    refuse(purse, 2, NOW + timedelta(seconds=59), name="second")
    refuse(purse, 1, NOW + MINUTE, name="next minute")
    refuse(purse, 4, name="of a key", api_key_id="k")
    assert watched.announce_refusals(OVER).messages == 2
    assert counts(watched) == [("b", 5), ("key", 4)]
    assert {each["stream_id"] for each in watched.messages(REFUSED)} == {"first0", "of a key0"}
    assert watched.announce_refusals(OVER + MINUTE).messages == 1
    assert counts(watched) == [("b", 1), ("b", 5), ("key", 4)]
    assert watched.rows("SELECT count(*) FROM hold_refusals") == [(0,)]


def test_the_figures_are_those_of_the_first_refusal(watched: Watched, purse: Purse) -> None:
    purse.set("b", "2")
    watched.use("acme", 1, NOW)
    purse.hold(asked("open"))
    refuse(purse, name="first")
    purse.set("b", "1")
    refuse(purse, name="second", max_output_tokens=4_000)
    watched.announce_refusals(OVER)
    (data,) = watched.messages(REFUSED)
    assert data == {
        "minute": "2026-11-23T15:30:00Z",
        "refusal_count": 2,
        "customer_id": "acme",
        "stream_id": "first0",
        "provider": "anthropic",
        "model": "claude-opus-4.7",
        "needed_usd_cents": "0.656",
        "budget_id": "b",
        "limit_usd_cents": "2",
        "spent_usd_cents": "1",
        "held_usd_cents": "0.656",
        "headroom_usd_cents": "0.344",
        "resets_at": "2026-12-01T00:00:00Z",
    }


def test_a_budget_of_the_deployment_has_one_message_though_many_customers_are_refused(
    watched: Watched, purse: Purse
) -> None:
    purse.set("all", "0.5", scope=EVERYTHING, window=BudgetWindow.TOTAL)

    def ask(number: int) -> None:
        refuse(purse, 5, customer_id=f"c{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(40)))
    assert watched.announce_refusals(OVER).messages == 1
    (data,) = watched.messages(REFUSED)
    assert (data["refusal_count"], data["resets_at"]) == (200, None)
    assert data["customer_id"] in {f"c{number}" for number in range(40)}


def test_a_minute_is_announced_when_it_is_over_and_what_comes_for_it_later_is_another_message(
    watched: Watched, purse: Purse
) -> None:
    purse.set("b", "0.5")
    refuse(purse, 2)
    assert watched.announce_refusals(OVER - timedelta(microseconds=1)).messages == 0
    assert watched.announce_refusals(OVER).messages == 1
    # A process whose clock is behind.
    refuse(purse, 3, name="late")
    assert watched.announce_refusals(OVER).messages == 1
    assert counts(watched) == [("b", 2), ("b", 3)]


def test_what_fits_once_forgotten_holds_have_expired_was_not_refused(watched: Watched, purse: Purse) -> None:
    purse.set("b", "1")
    purse.hold(asked("gone"))
    later = NOW + timedelta(seconds=121)
    first, second = purse.ask(asked("a"), asked("b"), now=later)
    assert isinstance(first, Hold)
    assert isinstance(second, BudgetExhaustedError)
    watched.announce_refusals(later + 2 * MINUTE)
    (data,) = watched.messages(REFUSED)
    assert (data["refusal_count"], data["stream_id"], data["held_usd_cents"]) == (1, "b", "0.656")


def test_only_what_a_budget_refuses_is_a_refused_hold(watched: Watched, purse: Purse) -> None:
    purse.set("warns", "0.1", action=BudgetAction.WARN)
    purse.hold(asked("a"))
    purse.ask(asked("a", max_output_tokens=5), asked("b", model="of-nobody"), asked("c", max_output_tokens=None))
    assert watched.announce_refusals(OVER).messages == 0


def test_a_balance_that_does_not_cover_a_stream_refuses_it(watched: Watched, purse: Purse) -> None:
    give(watched, "0.5", at=NOW)
    purse.set("prepaid", None, window=BudgetWindow.PREPAID)
    refuse(purse)
    watched.announce_refusals(OVER)
    (data,) = watched.messages(REFUSED)
    assert (data["budget_id"], data["limit_usd_cents"], data["resets_at"]) == ("prepaid", "0.5", None)


def test_without_an_endpoint_nothing_piles_up(watched: Watched) -> None:
    purse = Purse(watched.service)
    purse.set("b", "0.5")
    refuse(purse, 5)
    found = watched.announce_refusals(OVER)
    assert (found.messages, found.deliveries) == (1, 0)
    watched.endpoint()
    assert watched.announce_refusals(OVER).messages == 0


def test_it_is_due_right_after_each_minute_and_at_once_beyond_a_bound(watched: Watched, purse: Purse) -> None:
    for number in range(3):
        watched.customer(f"c{number}")
        purse.set(f"b{number}", "0.5", scope=BudgetScope(ScopeKind.CUSTOMER, f"c{number}"))
        refuse(purse, customer_id=f"c{number}")

    def look(now: datetime) -> tuple[int, bool] | None:
        found = announce_refusals(engine=purse.engine, every=EVERY, now=now, limit=2)
        return None if found is None else (found.messages, found.more)

    at = OVER + timedelta(seconds=30)
    assert look(at) == (2, True)
    assert look(at) == (1, False)
    assert look(OVER + MINUTE - timedelta(microseconds=1)) is None
    assert look(OVER + MINUTE) == (0, False)


def test_a_body_has_its_message_in_plain_json(watched: Watched, purse: Purse) -> None:
    purse.set("b", "0.5")
    refuse(purse, name="näive ✓ ")
    watched.announce_refusals(OVER)
    ((body,),) = watched.rows("SELECT body FROM webhook_deliveries")
    assert json.loads(body)["data"]["stream_id"] == "näive ✓ 0"

"""The local Stripe's own limits: a token bucket in all and for each endpoint, off unless they are wanted."""

import time
from dataclasses import dataclass

import httpx2
import pytest

from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.faults import RateLimits
from tests.lab.stripe_local.making import ask
from tests.local_stripe import LocalStripe, local_stripe
from tests.waiting import eventually


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def taken(limits: RateLimits, *endpoints: str) -> list[str]:
    """What came of each request: the limit that refused it, or nothing."""
    found = []
    for endpoint in endpoints:
        try:
            limits.take(endpoint)
            found.append("")
        except RefusedError as refused:
            found.append(refused.headers["stripe-rate-limited-reason"])
    return found


def test_a_seconds_worth_can_be_taken_at_once_and_then_as_it_fills() -> None:
    clock = Clock()
    limits = RateLimits(in_all=4, clock=clock)
    assert taken(limits, *"aabbab") == ["", "", "", "", "global-rate", "global-rate"]
    clock.now += 0.24
    assert taken(limits, "a") == ["global-rate"]
    clock.now += 0.02
    assert taken(limits, "a", "a") == ["", "global-rate"]
    clock.now += 60
    assert taken(limits, *"aaaaa") == ["", "", "", "", "global-rate"]


def test_each_endpoint_has_its_own_and_one_that_is_refused_takes_nothing_of_the_whole() -> None:
    clock = Clock()
    limits = RateLimits(in_all=5, per_endpoint=2, clock=clock)
    assert taken(limits, *"aaaab") == ["", "", "endpoint-rate", "endpoint-rate", ""]
    assert taken(limits, *"bcd") == ["", "", "global-rate"]


def test_over_a_long_time_the_rate_is_what_was_set() -> None:
    clock = Clock()
    limits = RateLimits(in_all=25, clock=clock)
    passed = 0
    for _ in range(10_000):
        clock.now += 0.01
        passed += taken(limits, "a") == [""]
    assert 2_500 <= passed <= 2_526


def test_a_rate_below_one_lets_one_through_at_a_time() -> None:
    clock = Clock()
    limits = RateLimits(in_all=0.5, clock=clock)
    assert taken(limits, "a", "a") == ["", "global-rate"]
    clock.now += 2.01
    assert taken(limits, "a", "a") == ["", "global-rate"]


@pytest.mark.parametrize("rate", [0, -1])
def test_a_limit_is_above_nothing(rate: float) -> None:
    with pytest.raises(ValueError, match="not greater than 0"):
        RateLimits(per_endpoint=rate)


def test_a_request_too_many_is_answered_as_stripe_does_and_does_nothing(there: LocalStripe) -> None:
    there.control.limit(per_endpoint=1)
    answers = [ask(there, "POST", "/v1/customers", {"name": "A"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    refused = answers[1]
    assert refused.json()["error"]["code"] == "rate_limit"
    assert refused.headers["stripe-rate-limited-reason"] == "endpoint-rate"
    assert refused.headers["stripe-should-retry"] == "false"
    there.control.limit(in_all=1)
    answers = [ask(there, "GET", path) for path in ("/v1/customers", "/v1/invoices")]
    assert answers[1].headers["stripe-rate-limited-reason"] == "global-rate"
    assert [each["status"] for each in there.control.requests()] == [200, 429, 200, 429]
    there.control.limit()
    assert len(there.client.v1.customers.list().data) == 1


def test_a_reset_brings_back_the_limits_that_it_was_started_with() -> None:
    with local_stripe(limits=RateLimits(in_all=2)) as there:
        there.control.limit()
        assert {ask(there, "GET", "/v1/balance").status_code for _ in range(5)} == {200}
        there.control.reset()

        def statuses() -> list[int]:
            time.sleep(1)  # what was asked before does not count any more
            return [ask(there, "GET", "/v1/balance").status_code for _ in range(3)]

        # On a busy machine, three requests may take longer than the second in which two are allowed.
        assert eventually(lambda: statuses() == [200, 200, 429])


def test_a_limit_that_makes_no_sense_is_refused_and_changes_nothing(there: LocalStripe) -> None:
    answer = httpx2.post(f"{there.url}/_local/limits", json={"in_all": 0, "per_endpoint": None}, timeout=60)
    assert answer.status_code == 400
    assert {ask(there, "GET", "/v1/balance").status_code for _ in range(5)} == {200}

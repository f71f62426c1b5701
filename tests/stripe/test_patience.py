"""Commands ask Stripe again when it fails, say so, and tell what is done when they give up."""

import pytest

from metering.cli import asking_stripe
from metering.lab.stripe_local.faults import Fault
from metering.stripe.client.errors import StripeRefusedError, StripeThrottledError, StripeUncertainError
from metering.stripe.client.patience import Patience
from tests.builders import Months
from tests.command_line import CommandLine
from tests.local_stripe import KEY

UNAVAILABLE = 75


def command_line(months: Months) -> CommandLine:
    return CommandLine(months.database, STRIPE_API_KEY=KEY, METERING_STRIPE_API_BASE=months.stripe.url)


def test_waits_double_up_to_a_bound_unless_stripe_asks_for_longer() -> None:
    waits: list[float] = []
    failures = [StripeUncertainError("lost")] * 3 + [StripeThrottledError("slow down")]
    failures[3].retry_after = 7.0

    def call() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    patience = Patience(tries=5, first_wait=0.5, longest_wait=1.5, sleep=waits.append)
    assert patience.run(call) == "done"
    assert waits == [0.5, 1.0, 1.5, 7.0]


@pytest.mark.parametrize(
    "error", [StripeRefusedError("no"), StripeUncertainError("the same answer again", replayed=True)]
)
def test_what_cannot_succeed_is_not_asked_again(error: Exception) -> None:
    asked: list[int] = []

    def call() -> None:
        asked.append(1)
        raise error

    with pytest.raises(type(error)):
        Patience(tries=5, sleep=lambda _: None).run(call)
    assert len(asked) == 1


@pytest.mark.parametrize("fault", [Fault.LOST_REQUEST, Fault.LOST_REPLY, Fault.THROTTLE])
def test_a_comparison_goes_on_after_faults_and_says_so(months: Months, fault: Fault) -> None:
    months.month("acme")
    months.stripe.control.fail_next("*", fault, times=2 if fault is not Fault.THROTTLE else 4)
    ended = command_line(months)("reconcile", exits=2)
    assert "asking again in" in ended.stderr
    months.stripe.control.clear_faults()


def test_a_comparison_that_gives_up_says_what_to_do_and_the_next_one_is_whole(
    months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_stripe, "_STRIPE_TRIES", 3)
    months.month("acme")
    months.stripe.control.fail_next("*", Fault.LOST_REQUEST, times=100)
    metering = command_line(months)
    ended = metering("reconcile", exits=UNAVAILABLE)
    assert "Stripe was asked 3 times: the comparison is not done" in ended.stderr.splitlines()[-1]
    months.stripe.control.clear_faults()
    assert metering.json("reconcile", exits=2)["compared"] == 1


def test_creating_customers_that_gives_up_says_how_many_are_done_and_goes_on(
    months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_stripe, "_STRIPE_TRIES", 2)
    metering = command_line(months)
    for name in ("a", "b", "c"):
        metering("customers", "set", name, "--name", name)
    months.stripe.control.fail_next("POST /v1/customers", Fault.LOST_REQUEST, times=100, skip=1)
    ended = metering("customers", "link", "--create", "--yes", exits=UNAVAILABLE)
    assert "1 of 3 customers are created and linked; run the command again" in ended.stderr
    months.stripe.control.clear_faults()
    assert "2 Stripe customers created and linked" in metering("customers", "link", "--create", "--yes").stderr

"""Faults on demand at the local Stripe: what each does, and that a reset ends them all."""

import time

import httpx2
import pytest
import stripe

from metering.lab.stripe_local.faults import Fault
from tests.lab.stripe_local.making import ask, customer, draft
from tests.local_stripe import LocalStripe


@pytest.mark.parametrize(
    ("fault", "made", "status", "after"),
    [
        (Fault.THROTTLE, 0, 429, 1),
        (Fault.ERROR_BEFORE, 0, 500, 0),
        (Fault.ERROR_AFTER, 1, 500, 1),
        (Fault.STORED_ERROR, 0, 500, 0),
        (Fault.LOCK_TIMEOUT, 0, 429, 0),
        (Fault.LOST_REQUEST, 0, None, 1),
        (Fault.LOST_REPLY, 1, None, 1),
    ],
)
def test_it_fails_on_demand_and_what_is_kept_is_kept(
    there: LocalStripe, fault: Fault, made: int, status: int | None, after: int
) -> None:
    who = customer(there)
    there.control.fail_next("POST /v1/invoices", fault)
    with pytest.raises(stripe.StripeError) as failed:
        draft(there, key="k", customer=who)
    assert failed.value.http_status == status
    assert len(there.client.v1.invoices.list().data) == made
    if status is not None and fault is not Fault.THROTTLE:
        with pytest.raises(stripe.StripeError) as again:
            draft(there, key="k", customer=who)
        assert again.value.http_status == status
    else:
        draft(there, key="k", customer=who)
    assert len(there.client.v1.invoices.list().data) == after


@pytest.mark.parametrize("status", [400, 402, 404, 409, 429, 503])
def test_an_error_of_any_status_is_stored_under_its_key(there: LocalStripe, status: int) -> None:
    who = customer(there)
    there.control.fail_next("POST /v1/invoices", Fault.STORED_ERROR, status=status)
    for replayed in (None, "true"):
        with pytest.raises(stripe.StripeError) as failed:
            draft(there, key="k", customer=who)
        assert failed.value.http_status == status
        assert failed.value.headers is not None
        assert failed.value.headers.get("idempotent-replayed") == replayed
    draft(there, key="another", customer=who)


def test_a_status_that_is_no_errors_is_not_planned(there: LocalStripe) -> None:
    with pytest.raises(httpx2.HTTPStatusError, match="400"):
        there.control.fail_next("*", Fault.STORED_ERROR, status=200)
    assert there.client.v1.customers.list().data == []


@pytest.mark.parametrize(
    ("fault", "retry_after", "should_retry"),
    [(Fault.THROTTLE, "1", "true"), (Fault.THROTTLE_NO_HEADER, None, None), (Fault.LOCK_TIMEOUT, None, "true")],
)
def test_a_429_says_that_it_may_be_sent_again_or_does_not(
    there: LocalStripe, fault: Fault, retry_after: str | None, should_retry: str | None
) -> None:
    there.control.fail_next("*", fault)
    answer = ask(there, "GET", "/v1/customers")
    assert answer.status_code == 429
    assert (answer.headers.get("retry-after"), answer.headers.get("stripe-should-retry")) == (
        retry_after,
        should_retry,
    )
    assert "stripe-rate-limited-reason" not in answer.headers


def test_a_slow_answer_takes_its_time(there: LocalStripe) -> None:
    there.control.fail_next("GET /v1/customers", Fault.SLOW, seconds=0.3)
    began = time.monotonic()
    assert there.client.v1.customers.list().data == []
    assert time.monotonic() - began >= 0.3


def test_faults_are_of_an_endpoint_or_of_any_and_can_come_later(there: LocalStripe) -> None:
    there.control.fail_next("GET /v1/balance", Fault.ERROR_BEFORE, skip=1, times=2)
    asked = [ask(there, "GET", path).status_code for path in ["/v1/balance", "/v1/events"] * 4]
    assert asked == [200, 200, 500, 200, 500, 200, 200, 200]
    there.control.fail_next("*", Fault.ERROR_BEFORE, times=2)
    assert [ask(there, "GET", path).status_code for path in ("/v1/events", "/v1/balance")] == [500, 500]
    told = [each["fault"] for each in there.control.requests()]
    assert told == [None, None, "error_before", None, "error_before", None, None, None] + ["error_before"] * 2


def test_a_change_that_fails_in_the_middle_is_none(there: LocalStripe) -> None:
    who = customer(there)
    invoice = draft(there, 100, customer=who)
    lines = [{"amount": 5}, {"amount": 5, "invoice_item": "ii_x"}]
    with pytest.raises(stripe.InvalidRequestError, match="No such invoiceitem"):
        there.client.v1.invoices.add_lines(invoice.id, {"lines": lines})  # type: ignore[typeddict-item]
    line = invoice.lines.data[0].id
    lines = [{"id": line, "amount": 7}, {"id": "il_x", "amount": 7}]
    with pytest.raises(stripe.InvalidRequestError, match="No such line_item"):
        there.client.v1.invoices.update_lines(invoice.id, {"lines": lines})  # type: ignore[typeddict-item]
    now = there.client.v1.invoices.retrieve(invoice.id)
    assert (now.subtotal, [each.amount for each in now.lines.data]) == (100, [100])


def test_a_reset_ends_everything_that_was_set(there: LocalStripe) -> None:
    customer(there, name="Gone")
    there.control.fail_next("*", Fault.ERROR_BEFORE, times=99)
    there.control.limit(in_all=0.001)
    there.control.delay_search(seconds=60)
    there.control.webhooks("hold")
    there.control.advance_clock(seconds=1_000_000)
    there.control.reset()
    assert there.control.requests() == []
    found = customer(there, name="Here")
    assert there.client.v1.customers.retrieve(found).created < time.time() + 10
    assert [each.id for each in there.client.v1.customers.search({"query": "-name:null"}).data] == [found]

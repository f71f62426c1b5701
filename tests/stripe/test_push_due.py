"""Pushing invoices: exactly one correct invoice at Stripe, whatever fails, dies or comes twice."""

import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.lab.stripe_local.faults import Fault
from metering.stripe.client.client import StripeClientPort
from metering.stripe.push import PushState
from metering.stripe.push_due import push_due
from metering.stripe.reconcile import reconcile
from metering.stripe.repair_drift import Caps
from metering.stripe.snapshot import Snapshot
from metering.stripe.store.operations import KEY_LIFETIME
from tests.builders import NOVEMBER, Months
from tests.local_stripe import KEY

WRITES = ("POST /v1/invoices", "POST /v1/invoices/{invoice}/add_lines", "POST /v1/invoices/{invoice}/finalize")
CALLS = ("GET /v1/invoices", *WRITES)
RIGHT = [("open", 100, 1)]


def test_an_invoice_is_read_for_once_and_written_in_three_calls(months: Months) -> None:
    months.month("acme")
    assert months.push() == {PushState.FINAL: 1}
    assert months.at_stripe() == RIGHT
    asked = [each for each in months.stripe.requests() if each not in ("POST /v1/customers",)]
    assert asked[:-1] == list(CALLS)  # the last is this test's own
    ((state, number, url),) = months.rows("SELECT state, stripe_number, stripe_url FROM invoice_pushes")
    assert state == "final"
    assert number
    assert url


def test_pushing_again_writes_nothing(months: Months) -> None:
    months.month("acme")
    months.push()
    before = months.rows("SELECT * FROM invoice_pushes")
    months.stripe.control.clear_requests()
    assert months.push() == {}
    assert months.stripe.requests("POST") == []
    assert months.rows("SELECT * FROM invoice_pushes") == before


@pytest.mark.parametrize("endpoint", CALLS)
@pytest.mark.parametrize("fault", [each for each in Fault if each is not Fault.SLOW])
@pytest.mark.parametrize("forgotten", [False, True], ids=["remembered", "forgotten"])
def test_whatever_a_call_ends_in_there_is_one_correct_invoice(
    months: Months, endpoint: str, fault: Fault, forgotten: bool
) -> None:
    months.month("acme")
    # What is throttled is sent again at once, twice; only a write's lock timeout is then a replay.
    throttles = {Fault.THROTTLE, Fault.THROTTLE_NO_HEADER} | (
        {Fault.LOCK_TIMEOUT} if endpoint not in WRITES else set()
    )
    times = 3 if fault in throttles else 1
    months.stripe.control.fail_next(endpoint, fault, times=times)
    first = months.push()
    assert first == {PushState.UNKNOWN: 1}
    if forgotten:
        months.stripe.control.forget_keys()
        months.ahead += KEY_LIFETIME
    months.push_all()
    assert months.at_stripe() == RIGHT
    assert months.rows("SELECT state FROM invoice_pushes") == [("final",)]


@pytest.mark.parametrize("endpoint", WRITES)
@pytest.mark.parametrize("status", [402, 404, 409])
def test_an_error_that_stripe_has_stored_is_got_over(months: Months, endpoint: str, status: int) -> None:
    months.month("acme")
    months.stripe.control.fail_next(endpoint, Fault.STORED_ERROR, status=status)
    assert months.push() == {PushState.UNKNOWN: 1}
    months.push_all()
    assert months.at_stripe() == RIGHT
    assert months.rows("SELECT state FROM invoice_pushes") == [("final",)]


def test_what_is_throttled_is_sent_again_under_the_same_key(months: Months) -> None:
    months.month("acme")
    for endpoint in WRITES:
        months.stripe.control.fail_next(endpoint, Fault.THROTTLE, times=2)
    assert months.push() == {PushState.FINAL: 1}
    sent = [each for each in months.stripe.control.requests() if each["endpoint"] in WRITES]
    assert len(sent) == 9
    assert len({each["idempotency_key"] for each in sent}) == 3


class _Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("place", range(len(CALLS)))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_worker_that_dies_before_or_after_any_call_leaves_it_to_the_next(
    months: Months, monkeypatch: pytest.MonkeyPatch, place: int, after: bool
) -> None:
    months.month("acme")
    calls = itertools.count()
    call = StripeClientPort._call

    def dying(self: StripeClientPort, endpoint: str, send: Callable[[], object]) -> object:
        now = next(calls)
        if now == place and not after:
            raise _Died
        answer = call(self, endpoint, send)
        if now == place:
            raise _Died
        return answer

    monkeypatch.setattr(StripeClientPort, "_call", dying)
    with pytest.raises(_Died):
        months.push()
    monkeypatch.undo()
    assert months.push() == {}, "its lease has not run out"
    months.push_all()
    assert months.at_stripe() == RIGHT


def test_every_call_failing_in_turn_still_ends_in_one_invoice(months: Months) -> None:
    months.month("acme")
    for endpoint in CALLS:
        for fault in (Fault.LOST_REPLY, Fault.ERROR_AFTER, Fault.THROTTLE, Fault.ERROR_BEFORE):
            months.stripe.control.fail_next(endpoint, fault)
    months.push_all()
    assert months.at_stripe() == RIGHT


def test_a_write_of_which_nobody_knows_whether_it_was_done_is_sent_again_under_its_key(months: Months) -> None:
    months.month("acme")
    for endpoint in WRITES:
        months.stripe.control.fail_next(endpoint, Fault.LOST_REQUEST)
    months.push_all()
    sent = [each for each in months.stripe.control.requests() if each["endpoint"] in WRITES]
    for endpoint in WRITES:
        keys = [each["idempotency_key"] for each in sent if each["endpoint"] == endpoint]
        assert (len(keys), len(set(keys))) == (2, 1), endpoint


def test_two_workers_at_once_make_one_invoice_each(months: Months) -> None:
    customers = [f"c{number}" for number in range(12)]
    months.month(*customers)
    with ThreadPoolExecutor(3) as pool:
        rounds = [
            pool.submit(lambda: [push_due(pusher=months.pusher(), limit=3, threads=3) for _ in range(8)])
            for _ in range(3)
        ]
        for each in rounds:
            each.result()
    assert months.at_stripe() == RIGHT * 12


def test_a_worker_that_lost_its_lease_writes_no_more(months: Months) -> None:
    months.month("acme")
    months.stripe.control.fail_next("POST /v1/invoices", Fault.SLOW, seconds=1.0)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(months.push)
        while "POST /v1/invoices" not in months.stripe.requests():
            pass
        months.ahead += timedelta(minutes=2)  # its lease is over; another takes the push
        assert months.push() == {PushState.UNKNOWN: 1}  # the same key is in flight
        assert slow.result() == {}
    months.push_all()
    assert months.at_stripe() == RIGHT


def test_an_invoice_that_lost_its_metadata_is_known_by_its_description(months: Months) -> None:
    months.month("acme")
    months.stripe.control.fail_next("POST /v1/invoices/{invoice}/add_lines", Fault.LOST_REQUEST)
    months.push()
    (invoice,) = months.stripe.client.v1.invoices.list().data
    months.stripe.control.edit(invoice.id, {"metadata": {}})
    months.push_all()
    assert months.at_stripe() == RIGHT


def test_an_invoice_deleted_while_it_is_pushed_is_made_anew(months: Months) -> None:
    months.month("acme")
    months.stripe.control.fail_next("POST /v1/invoices/{invoice}/finalize", Fault.THROTTLE, times=3)
    months.push()
    (invoice,) = months.stripe.client.v1.invoices.list().data
    months.stripe.client.v1.invoices.delete(invoice.id)
    months.push_all()
    assert months.at_stripe() == RIGHT


def test_a_draft_that_people_changed_is_mended_before_it_is_final(months: Months) -> None:
    months.month("acme")
    months.stripe.control.fail_next("POST /v1/invoices/{invoice}/finalize", Fault.THROTTLE, times=3)
    months.push()
    (invoice,) = months.stripe.client.v1.invoices.list().data
    line = invoice.lines.data[0]
    months.stripe.client.v1.invoices.update_lines(invoice.id, {"lines": [{"id": line.id, "amount": 7}]})
    months.stripe.client.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 5, "description": "fee"}]})
    months.push_all()
    assert months.at_stripe() == RIGHT


def test_manual_lines_are_kept_where_that_is_wanted(months: Months) -> None:
    months.month("acme")
    months.stripe.control.fail_next("POST /v1/invoices/{invoice}/finalize", Fault.THROTTLE, times=3)
    months.push()
    (invoice,) = months.stripe.client.v1.invoices.list().data
    months.stripe.client.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 5, "description": "fee"}]})
    months.push_all(keep_manual_lines=True)
    assert months.at_stripe() == [("open", 105, 2)]


def test_a_draft_of_another_customer_is_given_up_and_made_anew(months: Months) -> None:
    months.month("acme")
    months.stripe.control.fail_next("POST /v1/invoices/{invoice}/finalize", Fault.THROTTLE, times=3)
    months.push()
    other = months.link("acme")
    months.push_all()
    assert months.at_stripe() == RIGHT
    assert months.stripe.client.v1.invoices.list().data[0].customer == other
    assert months.rows("SELECT version FROM invoice_pushes") == [(2,)]


class _InEuros(StripeClientPort):
    """An account whose invoices come out in euros, whatever is asked for."""

    def _whole(self, document: Mapping[str, Any]) -> Snapshot:
        return replace(super()._whole(document), currency="eur")


def test_drafts_that_come_out_wrong_each_time_are_left_to_a_person(months: Months) -> None:
    months.month("acme")
    right = months.port
    months.port = _InEuros(api_key=KEY, api_base=months.stripe.url, limiter=right._limiter)
    assert months.push() == {PushState.STUCK: 1}
    assert months.stripe.requests("POST /v1/invoices") == ["POST /v1/invoices"] * 3
    ((problem,),) = months.rows("SELECT problem FROM invoice_pushes")
    assert "its currency is eur, not usd" in str(problem)
    months.port = right
    reconcile(
        pusher=months.pusher(), period=None, repair=True, caps=Caps(cents=0, share=Decimal(1)), requested_by="test"
    )
    assert months.at_stripe() == RIGHT


def test_a_customer_without_a_stripe_id_is_unlinked_until_it_has_one(months: Months) -> None:
    months.use("acme")
    months.close("2026-11")
    months.ahead = timedelta(days=60)
    assert months.push() == {PushState.UNLINKED: 1}
    assert months.push() == {}
    months.link("acme")
    assert months.push() == {PushState.FINAL: 1}


def test_a_customer_that_is_linked_while_its_invoice_is_found_unlinked_is_pushed(months: Months) -> None:
    months.use("acme")
    months.close("2026-11")
    months.ahead = timedelta(days=60)
    pusher = months.pusher()
    asked = itertools.count(1)

    def clock() -> datetime:
        # For the second time when the customer was read without a Stripe id, and before that is recorded.
        if next(asked) == 2:
            months.link("acme")
        return pusher.clock()

    push_due(pusher=replace(pusher, clock=clock), limit=8, threads=1)
    assert months.rows("SELECT stripe_customer_id IS NOT NULL FROM customers") == [(True,)]
    assert months.push() == {PushState.FINAL: 1}


def test_what_stripe_refuses_three_times_is_stuck_with_its_reason(months: Months) -> None:
    months.month("acme")
    months.stripe.control.remove(months.stripe.client.v1.customers.list().data[0].id)
    months.push_all()
    ((state, problem),) = months.rows("SELECT state, problem FROM invoice_pushes")
    assert state == "stuck"
    assert "No such customer" in str(problem)
    months.link("acme")
    assert months.push() == {PushState.FINAL: 1}


def test_a_later_invoice_waits_for_the_one_before(months: Months) -> None:
    months.month("acme")
    months.use("acme", name="t", at=NOVEMBER + timedelta(days=30))
    months.close("2026-12")
    months.ahead = timedelta(days=60)
    months.stripe.control.fail_next("POST /v1/invoices", Fault.THROTTLE, times=3)
    assert months.push() == {PushState.UNKNOWN: 1}
    assert months.rows("SELECT period FROM invoice_pushes WHERE state = 'unknown'") == [("2026-11",)]
    assert months.push() == {}
    months.push_all()
    assert months.at_stripe() == [("open", 100, 1), ("open", 100, 1)]


def test_more_lines_than_stripe_likes_to_show_become_ten_that_add_up(months: Months) -> None:
    for number in range(30):
        months.use("acme", name=f"s{number}", output=4_000 + number)
    with_models = "UPDATE charges SET model = 'model-' || stream_id"
    months.execute(with_models)
    months.link("acme")
    months.close("2026-11")
    months.ahead = timedelta(days=60)
    months.push_all()
    (invoice,) = months.stripe.client.v1.invoices.list().data
    assert invoice.lines.total_count == 10
    assert sum(line.amount for line in invoice.lines.data) == invoice.subtotal
    ((billed, ours),) = months.rows("SELECT i.billed_cents, (SELECT count(*) FROM invoice_lines) FROM invoices i")
    assert (invoice.subtotal, ours) == (billed, 30)


def test_an_invoice_that_fails_unexpectedly_holds_up_no_other_and_needs_a_person_after_three_times(
    months: Months,
) -> None:
    months.month("acme", "bad", "other")
    months.execute("ALTER TABLE stripe_operations ADD CONSTRAINT refused CHECK (customer_id <> 'bad')")
    assert months.push() == {PushState.FINAL: 2, PushState.UNKNOWN: 1}
    assert months.at_stripe() == RIGHT * 2
    for state in (PushState.UNKNOWN, PushState.STUCK):
        assert months.push() == {}, "it waits before it is tried again"
        months.ahead += timedelta(minutes=5)
        assert months.push() == {state: 1}
    ((state, problem),) = months.rows("SELECT state, problem FROM invoice_pushes WHERE customer_id = 'bad'")
    assert state == "stuck"
    assert problem == "failed unexpectedly (IntegrityError: the log of the worker has the details)"
    months.execute("ALTER TABLE stripe_operations DROP CONSTRAINT refused")
    months.link("bad")
    months.push_all()
    assert months.at_stripe() == RIGHT * 3

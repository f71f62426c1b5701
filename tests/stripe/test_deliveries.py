"""Webhooks as they come from Stripe over HTTP: once, twice, in any order, late; our pushes end where Stripe is."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from metering.lab.stripe_local.faults import Fault
from metering.stripe.client.client import StripeClientPort
from metering.stripe.client.errors import StripeUnauthorizedError
from metering.stripe.push import PushState
from metering.stripe.push_due import push_due
from tests.builders import Months
from tests.database import Database
from tests.local_stripe import LocalStripe, local_stripe
from tests.running_api import run_server
from tests.waiting import eventually

SECRET = "whsec_tests"
ADD_LINES = "POST /v1/invoices/{invoice}/add_lines"
READ = "GET /v1/invoices/{invoice}"
Act = Callable[[LocalStripe, str], object]


def void(there: LocalStripe, invoice: str) -> object:
    return there.client.v1.invoices.void_invoice(invoice)


def pay(there: LocalStripe, invoice: str) -> object:
    return there.client.v1.invoices.pay(invoice)


def give_up(there: LocalStripe, invoice: str) -> object:
    return there.client.v1.invoices.mark_uncollectible(invoice)


# What is done at Stripe to each customer's invoice, and where it ends.
FATES: dict[str, tuple[tuple[Act, ...], str]] = {
    "open": ((), "final"),
    "paid": ((pay,), "paid"),
    "voided": ((void,), "void"),
    "given_up": ((give_up,), "uncollectible"),
    "paid_late": ((give_up, pay), "paid"),
    "voided_late": ((give_up, void), "void"),
}


@pytest.fixture
def running_stripe(rated_database: Database) -> Iterator[LocalStripe]:
    """One that posts its events to the running API."""
    with rated_database.service(stripe_webhook_secret=SECRET) as service, run_server(service) as api:
        url = f"{api}/v1/stripe/webhook"
        with local_stripe(webhook_url=url, webhook_secret=SECRET) as there:
            yield there


def settle(months: Months) -> None:
    """Until every event is delivered, and the workers have looked."""
    assert eventually(lambda: months.stripe.control.deliveries()["waiting"] == 0)
    months.push_all()


def states(months: Months) -> dict[str, str]:
    return {str(row[0]): str(row[1]) for row in months.rows("SELECT customer_id, state FROM invoice_pushes")}


def invoice_of(months: Months, customer_id: str) -> str:
    query = f"SELECT stripe_invoice_id FROM invoice_pushes WHERE customer_id = '{customer_id}'"
    return str(months.rows(query)[0][0])


def doubled(made: list[dict[str, Any]]) -> int:
    """Events that came more than once."""
    return sum(count > 1 for count in Counter(each["id"] for each in made).values())


def out_of_order(made: list[dict[str, Any]]) -> int:
    """Events that came first after a later one of the same object; their ids grow with time."""
    newest: dict[str, str] = {}
    late = 0
    for event_id, about in dict.fromkeys((each["id"], each["object"]) for each in made):
        late += event_id < newest.get(about, "")
        newest[about] = max(newest.get(about, ""), event_id)
    return late


@pytest.mark.parametrize("mode", ["once", "twice", "shuffled", "hold"])
def test_pushes_end_where_stripe_is_however_its_events_come(months: Months, mode: str) -> None:
    months.stripe.control.webhooks(mode)
    months.month(*FATES)
    assert months.push() == {PushState.FINAL: len(FATES)}
    for customer_id, (acts, _) in FATES.items():
        for act in acts:
            act(months.stripe, invoice_of(months, customer_id))
    if mode == "hold":
        assert set(states(months).values()) == {"final"}
        months.stripe.control.release()
    settle(months)
    assert states(months) == {customer_id: state for customer_id, (_, state) in FATES.items()}

    made = months.stripe.control.deliveries()["made"]
    assert {each["status"] for each in made} == {200}
    kept = [str(row[0]) for row in months.rows("SELECT stripe_event_id FROM stripe_events")]
    assert sorted(kept) == sorted({each["id"] for each in made})
    assert len(kept) >= 4 * len(FATES)
    assert (doubled(made) > 0) == (mode != "once")
    assert (out_of_order(made) > 0) == (mode in ("shuffled", "hold"))


@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.LOST_REPLY, Fault.THROTTLE, Fault.STORED_ERROR])
def test_a_look_that_fails_is_taken_again(months: Months, fault: Fault) -> None:
    months.month("acme", "other")
    months.push_all()
    settle(months)
    for customer_id in ("acme", "other"):
        pay(months.stripe, invoice_of(months, customer_id))
    months.stripe.control.clear_requests()
    months.stripe.control.fail_next(READ, fault, times=6)
    settle(months)
    assert [each["fault"] for each in months.stripe.control.requests()].count(fault) == 6
    assert states(months) == {"acme": "paid", "other": "paid"}


def test_what_happens_while_it_is_looked_at_is_looked_at_next(
    months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    months.month("acme")
    months.push_all()
    settle(months)
    paid = itertools.count()
    read = StripeClientPort.get_invoice

    def read_and_then_it_is_paid(port: StripeClientPort, *, stripe_invoice_id: str) -> object:
        snapshot = read(port, stripe_invoice_id=stripe_invoice_id)
        if next(paid) == 0:
            pay(months.stripe, stripe_invoice_id)
            assert eventually(lambda: months.stripe.control.deliveries()["waiting"] == 0)
        return snapshot

    monkeypatch.setattr(StripeClientPort, "get_invoice", read_and_then_it_is_paid)
    months.stripe.client.v1.invoices.send_invoice(invoice_of(months, "acme"))
    settle(months)
    assert next(paid) == 2
    assert states(months) == {"acme": "paid"}


def test_what_happens_while_it_is_pushed_is_looked_at_next(
    months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    months.month("acme")
    finalize = StripeClientPort.finalize_invoice

    def finalize_and_then_it_is_paid(port: StripeClientPort, *, stripe_invoice_id: str, **given: Any) -> object:
        written = finalize(port, stripe_invoice_id=stripe_invoice_id, **given)
        pay(months.stripe, stripe_invoice_id)
        assert eventually(lambda: months.stripe.control.deliveries()["waiting"] == 0)
        return written

    monkeypatch.setattr(StripeClientPort, "finalize_invoice", finalize_and_then_it_is_paid)
    assert months.push() == {PushState.FINAL: 1}
    settle(months)
    assert states(months) == {"acme": "paid"}


def test_a_parked_push_waits_for_a_person_also_when_stripe_sends_an_event(months: Months) -> None:
    months.month("acme")
    months.stripe.control.fail_next(ADD_LINES, Fault.STORED_ERROR, times=9, status=400)
    months.push_all()
    assert states(months) == {"acme": "stuck"}
    months.stripe.control.clear_faults()
    invoice = invoice_of(months, "acme")
    months.stripe.client.v1.invoices.update(invoice, {"footer": "looked at"})
    months.stripe.control.clear_requests()
    settle(months)
    assert months.stripe.requests() == [READ]
    ((state, problem),) = months.rows("SELECT state, problem FROM invoice_pushes")
    assert (state, "A fault was planned" in str(problem)) == ("stuck", True)
    months.stripe.client.v1.invoices.add_lines(invoice, {"lines": [{"amount": 100}]})
    months.stripe.client.v1.invoices.finalize_invoice(invoice)
    settle(months)
    assert states(months) == {"acme": "final"}


def test_a_key_that_is_refused_costs_no_hint(months: Months) -> None:
    months.month("acme")
    months.push_all()
    settle(months)
    pay(months.stripe, invoice_of(months, "acme"))
    assert eventually(lambda: months.stripe.control.deliveries()["waiting"] == 0)
    months.stripe.control.fail_next(READ, Fault.STORED_ERROR, status=401)
    with pytest.raises(StripeUnauthorizedError):
        push_due(pusher=months.pusher(), limit=1, threads=1)
    settle(months)
    assert states(months) == {"acme": "paid"}

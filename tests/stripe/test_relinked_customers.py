"""Customers that are linked to another Stripe customer: an invoice stays with the one that it was final for."""

from datetime import timedelta
from pathlib import Path

import pytest

from metering.core.clock import utc_now
from metering.core.period import BillingPeriod
from metering.customers.store import CustomerDetails, StripeCustomerTakenError
from metering.lab.stripe_local.faults import Fault
from metering.stripe.drift import DriftClass, Remedy
from metering.stripe.push import PushState
from metering.stripe.put_customer import put_customer
from metering.stripe.reconcile import Reconciliation, reconcile
from metering.stripe.repair_drift import NO_REPAIRS
from metering.stripe.snapshot import StripeEvent
from metering.stripe.store.operations import KEY_LIFETIME
from metering.stripe.take_stripe_event import take_stripe_event
from tests.builders import NOVEMBER, Months
from tests.stripe.reconciling import edit_line, invoice_of, look

CREATE, FINALIZE = "POST /v1/invoices", "POST /v1/invoices/{invoice}/finalize"


def owners(months: Months) -> list[tuple[str, str, int]]:
    """(customer, status, cents) of all invoices at Stripe, oldest first."""
    found = months.stripe.client.v1.invoices.list({"limit": 100}).data
    return [(str(each.customer), each.status or "", each.subtotal) for each in reversed(found)]


def findings(report: Reconciliation) -> list[tuple[DriftClass, Remedy, str]]:
    return [(each.finding.drift_class, each.finding.remedy, each.finding.detail) for each in report.found]


def link_to(months: Months, customer_id: str, stripe_customer_id: str) -> None:
    details = CustomerDetails(stripe_customer_id=stripe_customer_id)
    put_customer(engine=months.service.engine, customer_id=customer_id, details=details, now=utc_now())


def november(months: Months) -> Reconciliation:
    """As beat compares it once a day."""
    return reconcile(
        pusher=months.pusher(),
        period=BillingPeriod(2026, 11),
        repair=False,
        caps=NO_REPAIRS,
        requested_by="test",
    )


def pushed(months: Months) -> str:
    """A customer with a final November, at this Stripe customer."""
    months.use("acme")
    old = months.link("acme")
    months.close_november()
    months.push_all()
    assert owners(months) == [(old, "open", 100)]
    return old


@pytest.mark.parametrize("paid", [False, True], ids=["open", "paid"])
def test_the_former_customers_invoice_is_told_once(months: Months, paid: bool) -> None:
    old = pushed(months)
    if paid:
        months.stripe.client.v1.invoices.pay(invoice_of(months).id)
        look(months, repair=True)
    new = months.link("acme")
    says = f"it stays with the former customer {old}; the customer is now linked to {new}"
    assert findings(november(months)) == [(DriftClass.WRONG_CUSTOMER, Remedy.REPORT, says)]
    for _ in range(3):
        assert findings(november(months)) == []
        assert findings(look(months, repair=True)) == []
    assert [each[0] for each in owners(months)] == [old]
    assert months.rows("SELECT stripe_customer_id, relinked_to FROM invoice_pushes") == [(old, new)]


def test_it_is_told_again_of_another_link_and_not_of_the_one_back(months: Months) -> None:
    old = pushed(months)
    for _ in range(2):
        months.link("acme")
        assert len(november(months).found) == 1
        assert november(months).found == []
    link_to(months, "acme", old)
    assert november(months).found == []
    assert findings(look(months, repair=True)) == []


def test_late_usage_goes_to_the_new_customer(months: Months) -> None:
    old = pushed(months)
    new = months.link("acme")
    months.use("acme", name="late", at=NOVEMBER + timedelta(hours=1))
    months.close("2026-12")
    months.ahead = timedelta(days=60)
    months.push_all()
    assert owners(months) == [(old, "open", 100), (new, "open", 100)]
    kinds = "SELECT kind FROM invoice_lines JOIN invoices USING (customer_id, invoice_id) WHERE period = '2026-12'"
    assert {row[0] for row in months.rows(kinds)} == {"late_usage", "carried_in"}


def test_what_differs_on_the_former_customers_invoice_is_found_and_repaired_there(months: Months) -> None:
    old = pushed(months)
    months.link("acme")
    november(months)
    edit_line(months, invoice_of(months), 130)
    assert [each.finding.drift_class for each in look(months).found] == [DriftClass.LINE]
    assert look(months, repair=True).left == []
    (note,) = months.stripe.client.v1.credit_notes.list().data
    assert (note.customer, note.amount) == (old, 30)
    edit_line(months, invoice_of(months), 90)
    assert look(months, repair=True).left == []
    assert {each[0] for each in owners(months)} == {old}
    assert look(months).found == []


def test_the_state_of_the_former_customers_invoice_is_still_adopted(months: Months) -> None:
    pushed(months)
    months.link("acme")
    invoice = months.stripe.client.v1.invoices.pay(invoice_of(months).id)
    event = months.stripe.client.v1.events.list({"type": "invoice.paid"}).data[0]
    take_stripe_event(
        engine=months.service.engine,
        event=StripeEvent(
            stripe_event_id=event.id, type=event.type, stripe_object_id=invoice.id, created_at=utc_now()
        ),
        now=utc_now(),
    )
    assert months.push() == {PushState.PAID: 1}


def test_an_invoice_whose_customer_was_unlinked_is_no_drift(months: Months) -> None:
    old = pushed(months)
    months.execute("UPDATE customers SET stripe_customer_id = NULL")
    assert november(months).found == []
    assert look(months, repair=True).found == []
    months.execute("UPDATE invoice_pushes SET due_at = now()")
    months.push()
    assert months.rows("SELECT state, problem, stripe_customer_id FROM invoice_pushes") == [("final", None, old)]


def test_a_former_customer_may_become_anothers(months: Months) -> None:
    old = pushed(months)
    with pytest.raises(StripeCustomerTakenError):
        link_to(months, "beta", old)
    months.link("acme")
    months.use("beta")
    link_to(months, "beta", old)
    months.close("2026-12")
    months.ahead = timedelta(days=60)
    months.push_all()
    assert owners(months)[0] == (old, "open", 100)
    assert [each.customer_id for each in look(months).found] == ["acme"]
    assert look(months).found == []


@pytest.mark.parametrize("forgotten", [False, True], ids=["remembered", "forgotten"])
@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.LOST_REQUEST, Fault.ERROR_AFTER])
@pytest.mark.parametrize("endpoint", [CREATE, "POST /v1/invoices/{invoice}/add_lines", FINALIZE])
def test_a_customer_that_is_relinked_during_a_push_has_one_invoice(
    months: Months, endpoint: str, fault: Fault, forgotten: bool
) -> None:
    """A draft follows the link; what was finalized stays. A creation without an answer is looked for at both."""
    months.use("acme")
    old = months.link("acme")
    months.close_november()
    months.stripe.control.fail_next(endpoint, fault)
    assert months.push() == {PushState.UNKNOWN: 1}
    new = months.link("acme")
    if forgotten:
        months.stripe.control.forget_keys()
        months.ahead += KEY_LIFETIME
    months.push_all()
    stays = endpoint == FINALIZE and fault is not Fault.LOST_REQUEST
    assert owners(months) == [(old if stays else new, "open", 100)]
    assert len(november(months).found) == stays
    assert look(months, repair=True).found == []


def test_a_month_that_is_stuck_at_a_deleted_customer_goes_to_the_new_one(months: Months) -> None:
    months.use("acme")
    old = months.link("acme")
    months.close_november()
    months.stripe.control.remove(old)
    months.push_all()
    assert months.rows("SELECT state FROM invoice_pushes") == [("stuck",)]
    new = months.link("acme")
    months.push_all()
    assert owners(months) == [(new, "open", 100)]
    assert november(months).found == []


def test_an_invoice_that_was_moved_at_stripe_is_reported_every_time(months: Months) -> None:
    pushed(months)
    other = months.stripe.client.v1.customers.create({"name": "other"}).id
    months.stripe.control.edit(invoice_of(months).id, {"customer": other})
    for _ in range(2):
        ((drift, remedy, detail),) = findings(november(months))
        assert (drift, remedy) == (DriftClass.WRONG_CUSTOMER, Remedy.REPORT)
        assert detail.startswith(f"its customer is {other}, not ")


def test_pushes_of_an_earlier_release_know_their_customer(months: Months) -> None:
    """The migration reads it from the writes that were recorded."""
    old = pushed(months)
    migration = "UPDATE invoice_pushes p SET stripe_customer_id = sent.stripe_customer_id"
    text = (Path(__file__).parents[2] / "migrations" / "versions" / "0014_money.py").read_text()
    statement = migration + text.partition(migration)[2].partition(";")[0]
    with months.owner() as connection:
        connection.execute("UPDATE invoice_pushes SET stripe_customer_id = NULL")
        connection.execute(statement.encode())
    assert months.rows("SELECT stripe_customer_id FROM invoice_pushes") == [(old,)]

"""Reconciling: every class of drift is planted at Stripe, found, and ends as docs/months.md says."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
import stripe

from metering.core.period import BillingPeriod
from metering.lab.stripe_local.faults import Fault
from metering.stripe.drift import DriftClass, Remedy
from metering.stripe.reconcile import Reconciliation, reconcile
from metering.stripe.repair_drift import Caps
from tests.builders import Months
from tests.stripe.reconciling import CAPS, edit_line, invoice_of, look

FINALIZE = "POST /v1/invoices/{invoice}/finalize"


def found(report: Reconciliation) -> list[tuple[DriftClass, Remedy, int]]:
    return [(each.finding.drift_class, each.finding.remedy, each.finding.cents) for each in report.found]


def drafted(months: Months) -> stripe.Invoice:
    """A pushed invoice that is still a draft."""
    months.month("acme")
    months.stripe.control.fail_next(FINALIZE, Fault.LOST_REQUEST)
    months.push()
    months.ahead += timedelta(minutes=6)
    return invoice_of(months)


def finalized(months: Months) -> stripe.Invoice:
    months.month("acme")
    months.push_all()
    return invoice_of(months)


def test_what_is_at_stripe_as_it_should_be_has_no_drift(months: Months) -> None:
    months.month("acme", "other")
    months.push_all()
    report = look(months)
    assert report.found == []
    assert (report.compared, report.ours_cents, report.theirs_cents) == (2, 200, 200)


def test_looking_writes_nothing_to_stripe(months: Months) -> None:
    invoice = finalized(months)
    months.stripe.control.edit(invoice.lines.data[0].id, {"amount": 90}, recompute=True)
    months.stripe.control.clear_requests()
    assert len(look(months).left) == 1
    assert months.stripe.requests("POST") + months.stripe.requests("DELETE") == []


def add_line(months: Months, invoice: stripe.Invoice) -> None:
    line = {"amount": 500, "description": "a fee"}
    months.stripe.client.v1.invoices.add_lines(invoice.id, {"lines": [line]})  # type: ignore[list-item]


def remove_line(months: Months, invoice: stripe.Invoice) -> None:
    line = {"id": invoice.lines.data[0].id, "behavior": "delete"}
    months.stripe.client.v1.invoices.remove_lines(invoice.id, {"lines": [line]})  # type: ignore[list-item]


Plant = Callable[[Months, stripe.Invoice], None]


@pytest.mark.parametrize(
    ("drift", "cents", "plant"),
    [
        (DriftClass.LINE, 20, lambda months, invoice: edit_line(months, invoice, 120)),
        (DriftClass.LINE, -60, lambda months, invoice: edit_line(months, invoice, 40)),
        (DriftClass.LINE, -100, remove_line),
        (DriftClass.EXTRA_LINE, 500, add_line),
        (
            DriftClass.DUPLICATE_LINE,
            100,
            lambda months, invoice: months.stripe.control.copy_line(invoice.lines.data[0].id),
        ),
        (
            DriftClass.WRONG_CURRENCY,
            0,
            lambda months, invoice: months.stripe.control.edit(invoice.id, {"currency": "eur"}),
        ),
        (
            DriftClass.WRONG_PERIOD,
            0,
            lambda months, invoice: months.stripe.control.edit(
                invoice.id, {"metadata": {**invoice.metadata.to_dict(), "metering_period": "2026-01"}}
            ),
        ),
    ],
)
def test_drift_of_a_draft_is_mended_by_pushing_it(
    months: Months, drift: DriftClass, cents: int, plant: Plant
) -> None:
    invoice = drafted(months)
    plant(months, invoice)
    assert (drift, Remedy.PUSH, cents) in found(look(months))
    report = look(months, repair=True)
    assert report.left == []
    assert months.at_stripe() == [("open", 100, 1)]
    assert look(months).found == []


def test_a_missing_invoice_is_made(months: Months) -> None:
    invoice = finalized(months)
    months.stripe.control.remove(invoice.id)
    assert found(look(months)) == [(DriftClass.MISSING, Remedy.PUSH, -100)]
    assert look(months, repair=True).left == []
    assert months.at_stripe() == [("open", 100, 1)]
    assert look(months).found == []


@pytest.mark.parametrize("paid", [False, True], ids=["open", "paid"])
def test_a_final_invoice_that_is_too_high_is_credited(months: Months, paid: bool) -> None:
    invoice = finalized(months)
    edit_line(months, invoice, 130)
    if paid:
        months.stripe.client.v1.invoices.pay(invoice.id)
        look(months, repair=True)
    else:
        assert found(look(months)) == [(DriftClass.LINE, Remedy.CREDIT_NOTE, 30)]
        look(months, repair=True)
    notes = months.stripe.client.v1.credit_notes.list({"invoice": invoice.id}).data
    assert [note.amount for note in notes] == [30]
    assert look(months).found == []


def test_a_final_invoice_with_a_line_twice_is_credited(months: Months) -> None:
    invoice = finalized(months)
    months.stripe.control.copy_line(invoice.lines.data[0].id)
    assert found(look(months)) == [(DriftClass.DUPLICATE_LINE, Remedy.CREDIT_NOTE, 100)]
    assert look(months, repair=True).left == []
    assert look(months).found == []


def test_a_final_invoice_that_is_too_low_is_billed_beside(months: Months) -> None:
    invoice = finalized(months)
    edit_line(months, invoice, 40)
    assert found(look(months)) == [(DriftClass.LINE, Remedy.ADJUSTMENT_INVOICE, -60)]
    assert look(months, repair=True).left == []
    assert sorted(months.at_stripe()) == [("open", 40, 1), ("open", 60, 1)]
    again = look(months, repair=True)
    assert again.found == []
    assert again.theirs_cents == 100
    assert len(months.at_stripe()) == 2


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.ERROR_AFTER, Fault.LOST_REQUEST, Fault.THROTTLE])
@pytest.mark.parametrize("endpoint", ["POST /v1/credit_notes", "POST /v1/invoices", FINALIZE])
def test_a_repair_that_fails_in_the_middle_is_not_done_twice(months: Months, fault: Fault, endpoint: str) -> None:
    invoice = finalized(months)
    edit_line(months, invoice, 130 if "credit" in endpoint else 40)
    months.stripe.control.fail_next(endpoint, fault)
    for _ in range(4):
        look(months, repair=True)
    assert look(months).found == []
    assert look(months).theirs_cents == 100


def test_a_fee_added_at_stripe_to_a_final_invoice_is_only_reported(months: Months) -> None:
    invoice = finalized(months)
    months.stripe.control.edit(invoice.id, {"status": "draft"})
    add_line(months, invoice)
    months.stripe.control.edit(invoice.id, {"status": "open"})
    report = look(months, repair=True)
    assert found(report) == [(DriftClass.EXTRA_LINE, Remedy.REPORT, 500)]
    assert len(report.left) == 1


def test_a_second_draft_is_deleted_and_a_second_final_one_reported(months: Months) -> None:
    invoice = finalized(months)
    assert isinstance(invoice.customer, str)
    copy = months.stripe.client.v1.invoices.create(
        {"customer": invoice.customer, "metadata": invoice.metadata.to_dict() if invoice.metadata else {}}
    )
    assert found(look(months)) == [(DriftClass.DUPLICATE_INVOICE, Remedy.DELETE_DRAFT, 0)]
    assert look(months, repair=True).left == []
    assert months.at_stripe() == [("open", 100, 1)]
    copy = months.stripe.client.v1.invoices.create(
        {"customer": invoice.customer, "metadata": invoice.metadata.to_dict() if invoice.metadata else {}}
    )
    months.stripe.client.v1.invoices.add_lines(copy.id, {"lines": [{"amount": 100}]})
    months.stripe.client.v1.invoices.finalize_invoice(copy.id)
    assert found(look(months, repair=True)) == [(DriftClass.DUPLICATE_INVOICE, Remedy.REPORT, 100)]


def test_an_invoice_with_our_mark_that_is_of_none_of_ours_is_reported(months: Months) -> None:
    invoice = finalized(months)
    assert isinstance(invoice.customer, str)
    mark = f"tests/inv_{'0' * 24}"
    months.stripe.client.v1.invoices.create({"customer": invoice.customer, "metadata": {"metering_invoice": mark}})
    other = f"elsewhere/inv_{'0' * 24}"
    months.stripe.client.v1.invoices.create(
        {"customer": invoice.customer, "metadata": {"metering_invoice": other}}
    )
    assert found(look(months, repair=True)) == [(DriftClass.EXTRA_INVOICE, Remedy.REPORT, 0)]


def test_a_voided_invoice_is_reported_and_never_billed_again_by_itself(months: Months) -> None:
    invoice = finalized(months)
    months.stripe.client.v1.invoices.void_invoice(invoice.id)
    report = look(months, repair=True)
    assert found(report) == [(DriftClass.STATE, Remedy.REPORT, 0)]
    months.push_all()
    assert [each[0] for each in months.at_stripe()] == ["void"]


def test_what_was_paid_at_stripe_is_adopted(months: Months) -> None:
    invoice = finalized(months)
    months.stripe.client.v1.invoices.pay(invoice.id)
    assert found(look(months)) == [(DriftClass.SETTLEMENT, Remedy.ADOPT, 0)]
    assert look(months, repair=True).left == []
    assert months.rows("SELECT state FROM invoice_pushes") == [("paid",)]


def test_a_draft_that_was_finalized_at_stripe_is_adopted(months: Months) -> None:
    invoice = drafted(months)
    months.stripe.client.v1.invoices.finalize_invoice(invoice.id)
    assert found(look(months)) == [(DriftClass.STATE, Remedy.ADOPT, 0)]
    assert look(months, repair=True).left == []
    assert months.rows("SELECT state FROM invoice_pushes") == [("final",)]


def test_a_final_invoice_of_another_customer_is_reported(months: Months) -> None:
    finalized(months)
    months.link("acme")
    assert found(look(months, repair=True)) == [(DriftClass.WRONG_CUSTOMER, Remedy.REPORT, 0)]


def test_repairs_over_the_caps_are_not_done(months: Months) -> None:
    customers = [f"c{number}" for number in range(8)]
    months.month(*customers)
    months.push_all()
    for invoice in months.stripe.client.v1.invoices.list({"limit": 100}).data:
        edit_line(months, invoice, 130)
    report = look(months, repair=True)
    assert "8 of 8 customers" in str(report.problem)
    assert len(report.left) == 8
    report = look(months, repair=True, caps=Caps(cents=239, share=Decimal(1)))
    assert "240 cents" in str(report.problem)
    assert months.stripe.client.v1.credit_notes.list().data == []
    report = look(months, repair=True, caps=Caps(cents=240, share=Decimal(1)))
    assert (report.problem, report.left) == (None, [])


def test_what_is_credited_and_what_is_billed_count_both_for_the_cap(months: Months) -> None:
    months.month("high", "low")
    months.push_all()
    for invoice, amount in zip(months.stripe.client.v1.invoices.list().data, (130, 70), strict=True):
        edit_line(months, invoice, amount)
    report = look(months, repair=True, caps=Caps(cents=59, share=Decimal(1)))
    assert "60 cents" in str(report.problem)
    report = look(months, repair=True, caps=Caps(cents=60, share=Decimal(1)))
    assert (report.problem, report.left) == (None, [])


def test_findings_and_repairs_are_kept(months: Months) -> None:
    invoice = finalized(months)
    edit_line(months, invoice, 130)
    look(months, repair=True)
    ((drift, cents, repair, repaired),) = months.rows(
        "SELECT drift_class, drift_cents, repair, repaired_at IS NOT NULL FROM drift_findings"
    )
    assert (drift, cents, repair, repaired) == ("line", 30, "$0.30 credited", True)


def test_another_month_is_left_alone(months: Months) -> None:
    invoice = finalized(months)
    edit_line(months, invoice, 130)
    report = reconcile(
        pusher=months.pusher(), period=BillingPeriod(2026, 10), repair=True, caps=CAPS, requested_by="test"
    )
    assert (report.compared, report.found) == (0, [])

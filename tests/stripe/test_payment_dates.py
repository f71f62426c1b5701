"""When an invoice is due and was paid: as Stripe has it, and never invented."""

from datetime import UTC, datetime, timedelta

from tests.builders import Months
from tests.stripe.reconciling import invoice_of, look

NOW = datetime(2026, 12, 20, tzinfo=UTC)


def dates(months: Months) -> tuple[object, ...]:
    (found,) = months.rows("SELECT finalized_at, payment_due_at, paid_at FROM invoice_pushes")
    return found


def at(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def test_an_invoice_that_is_sent_has_its_due_date_and_one_that_is_charged_has_none(months: Months) -> None:
    months.month("acme")
    months.push_all(days_until_due=14)
    theirs = invoice_of(months)
    assert theirs.due_date is not None
    assert dates(months) == (at(theirs.status_transitions.finalized_at), at(theirs.due_date), None)


def test_without_a_due_date_at_stripe_there_is_none_here(months: Months) -> None:
    months.month("acme")
    months.push_all()
    finalized, due, paid = dates(months)
    assert finalized is not None
    assert (due, paid) == (None, None)


def test_a_payment_is_read_back_with_its_time(months: Months) -> None:
    months.month("acme")
    months.push_all(days_until_due=14)
    months.stripe.client.v1.invoices.pay(invoice_of(months).id)
    months.execute("UPDATE invoice_pushes SET due_at = now()")
    months.push_all(days_until_due=14)
    assert dates(months)[2] == at(invoice_of(months).status_transitions.paid_at)
    assert months.rows("SELECT state FROM invoice_pushes") == [("paid",)]


def test_a_due_date_that_was_changed_at_stripe_is_read_by_a_reconciliation(months: Months) -> None:
    months.month("acme")
    months.push_all(days_until_due=14)
    later = int((NOW + timedelta(days=40)).timestamp())
    months.stripe.control.edit(invoice_of(months).id, {"due_date": later})
    assert look(months).found == []
    assert dates(months)[1] == at(later)

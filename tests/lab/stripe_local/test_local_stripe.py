"""The local Stripe, driven by the stock package: it behaves as Stripe does where we rely on it."""

import threading
from pathlib import Path

import httpx2
import pytest
import stripe

from metering.lab.stripe_local.faults import Fault
from tests.lab.stripe_local.making import LINE, customer, draft
from tests.local_stripe import LocalStripe, local_stripe
from tests.waiting import eventually


def test_an_invoice_lives_from_draft_to_paid(there: LocalStripe) -> None:
    invoice = draft(there, 120, 80)
    assert (invoice.status, invoice.subtotal, len(invoice.lines.data)) == ("draft", 200, 2)
    assert invoice.lines.data[0].metadata.to_dict() == {"k": "v"}
    line = invoice.lines.data[1].id
    changed = there.client.v1.invoices.update_lines(invoice.id, {"lines": [{"id": line, "amount": 90}]})
    assert changed.total == 210
    gone = {"id": line, "behavior": "delete"}
    assert there.client.v1.invoices.remove_lines(invoice.id, {"lines": [gone]}).total == 120  # type: ignore[list-item]
    final = there.client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    assert (final.status, final.amount_due) == ("open", 120)
    assert final.number is not None
    paid = there.client.v1.invoices.pay(invoice.id)
    assert (paid.status, paid.amount_remaining) == ("paid", 0)
    assert there.client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_what_is_final_can_not_be_changed_or_deleted(there: LocalStripe) -> None:
    invoice = draft(there, 120)
    there.client.v1.invoices.finalize_invoice(invoice.id)
    for act in (
        lambda: there.client.v1.invoices.add_lines(invoice.id, {"lines": [LINE]}),  # type: ignore[list-item]
        lambda: there.client.v1.invoices.delete(invoice.id),
        lambda: there.client.v1.invoices.update(invoice.id, {"description": "other"}),
        lambda: there.client.v1.invoices.finalize_invoice(invoice.id),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            act()
        assert refused.value.http_status == 400
    assert there.client.v1.invoices.void_invoice(invoice.id).status == "void"


def test_less_than_fifty_cents_is_not_collected_but_moved_to_the_customers_balance(there: LocalStripe) -> None:
    who = customer(there)
    small = draft(there, 49, customer=who)
    final = there.client.v1.invoices.finalize_invoice(small.id)
    assert (final.status, final.amount_due, final.ending_balance) == ("paid", 0, 49)
    assert there.client.v1.customers.retrieve(who).balance == 49
    next_one = there.client.v1.invoices.finalize_invoice(draft(there, 100, customer=who).id)
    assert (next_one.subtotal, next_one.amount_due) == (100, 149)
    assert there.client.v1.customers.retrieve(who).balance == 0


def test_a_credit_note_takes_back_a_part_and_leaves_the_invoices_own_sums(there: LocalStripe) -> None:
    invoice = draft(there, 500)
    there.client.v1.invoices.finalize_invoice(invoice.id)
    there.client.v1.credit_notes.create({"invoice": invoice.id, "amount": 100})
    now = there.client.v1.invoices.retrieve(invoice.id)
    assert (now.subtotal, now.amount_remaining, now.pre_payment_credit_notes_amount) == (500, 400, 100)
    there.client.v1.invoices.pay(invoice.id)
    with pytest.raises(stripe.InvalidRequestError, match="must equal"):
        there.client.v1.credit_notes.create({"invoice": invoice.id, "amount": 50})
    there.client.v1.credit_notes.create({"invoice": invoice.id, "amount": 50, "credit_amount": 50})
    assert there.client.v1.invoices.retrieve(invoice.id).post_payment_credit_notes_amount == 50
    with pytest.raises(stripe.InvalidRequestError, match="at most 350"):
        there.client.v1.credit_notes.create({"invoice": invoice.id, "amount": 351, "credit_amount": 351})


@pytest.mark.parametrize(
    ("path", "form", "code"),
    [
        ("/v1/invoices", {"customer": "cus_x", "colour": "red"}, "parameter_unknown"),
        ("/v1/invoices", {"auto_advance": "perhaps", "customer": "x"}, "parameter_invalid_boolean"),
        ("/v1/invoices", {"customer": "cus_x"}, "resource_missing"),
        ("/v1/invoices/in_x/add_lines", {}, "parameter_missing"),
        ("/v1/invoices/in_x/add_lines", {"lines[0][amount]": "1.5"}, "parameter_invalid_integer"),
        ("/v1/invoices/in_x/add_lines", {"lines[0][cost]": "1"}, "parameter_unknown"),
        ("/v1/customers", {"email": "x" * 513}, "parameter_invalid_string"),
    ],
)
def test_it_refuses_what_stripes_description_refuses(
    there: LocalStripe, path: str, form: dict[str, str], code: str
) -> None:
    answer = httpx2.post(there.url + path, data=form, headers={"authorization": "Bearer sk_test_x"}, timeout=60)
    assert answer.json()["error"]["code"] == code
    assert answer.headers["stripe-local"] == "1"


def test_lists_are_paged_newest_first(there: LocalStripe) -> None:
    who = customer(there)
    made = [draft(there, customer=who).id for _ in range(25)]
    draft(there)
    page = there.client.v1.invoices.list({"customer": who, "limit": 10})
    assert [each.id for each in page.auto_paging_iter()] == made[::-1]
    lines = there.client.v1.invoices.add_lines(made[0], {"lines": [LINE] * 15})  # type: ignore[list-item]
    assert (len(lines.lines.data), lines.lines.has_more) == (10, True)
    assert len(list(there.client.v1.invoices.line_items.list(made[0]).auto_paging_iter())) == 15


def test_an_idempotency_key_gives_the_first_answer_again(there: LocalStripe) -> None:
    who = customer(there)
    one = draft(there, key="k", customer=who)
    again = draft(there, key="k", customer=who)
    assert again.id == one.id
    assert again.last_response is not None
    assert again.last_response.headers["idempotent-replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError):
        draft(there, key="k", customer=who, description="another")
    there.client.v1.invoices.delete(one.id)
    assert draft(there, key="k", customer=who).id == one.id  # it is gone, and the answer is as it was
    there.control.forget_keys()
    assert draft(there, key="k", customer=who).id != one.id
    there.control.advance_clock(seconds=25 * 3600)
    assert len(there.client.v1.invoices.list().data) == 1


def test_a_key_in_flight_is_a_conflict(there: LocalStripe) -> None:
    who = customer(there)
    there.control.fail_next("POST /v1/invoices", Fault.SLOW, seconds=0.5)
    first = threading.Thread(target=lambda: draft(there, key="k", customer=who))
    first.start()
    assert eventually(lambda: "POST /v1/invoices" in there.requests())
    with pytest.raises(stripe.StripeError) as refused:
        draft(there, key="k", customer=who)
    assert refused.value.http_status == 409
    first.join()
    assert len(there.client.v1.invoices.list().data) == 1


def test_what_it_knows_outlives_it_in_a_file(tmp_path: Path) -> None:
    with local_stripe(state=tmp_path / "stripe.db") as there:
        invoice = draft(there, 120, 80, key="k")
        there.client.v1.invoices.finalize_invoice(invoice.id)
    with local_stripe(state=tmp_path / "stripe.db") as there:
        kept = there.client.v1.invoices.retrieve(invoice.id)
        assert (kept.status, [line.amount for line in kept.lines.data]) == ("open", [120, 80])
        assert draft(there, 500, customer=kept.customer).id > invoice.id


def test_the_page_shows_invoices_and_escapes_what_they_hold(there: LocalStripe) -> None:
    assert "No invoices yet" in httpx2.get(there.url, timeout=60).text
    invoice = draft(there, 120, customer=customer(there, name="<script>alert(1)</script>"))
    listed = httpx2.get(there.url, timeout=60)
    assert "<script>" not in listed.text
    assert "$1.20" in listed.text
    assert "default-src 'none'" in listed.headers["content-security-policy"]
    assert "usage" in httpx2.get(f"{there.url}/invoices/{invoice.id}", timeout=60).text


def test_events_state_what_happened(there: LocalStripe) -> None:
    invoice = draft(there, 120)
    there.client.v1.invoices.finalize_invoice(invoice.id)
    told = [event.type for event in there.client.v1.events.list({"limit": 100}).data]
    assert told == ["invoice.finalized", "invoice.updated", "invoice.created", "customer.created"]

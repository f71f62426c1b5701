"""Invoice items at the local Stripe: those that wait, and those that are lines of a draft."""

from typing import Any

import pytest
import stripe

from tests.lab.stripe_local.making import LINE, customer, draft, final
from tests.local_stripe import LocalStripe


def item(there: LocalStripe, who: str, **given: Any) -> stripe.InvoiceItem:
    return there.client.v1.invoice_items.create({"customer": who, **given})  # type: ignore[typeddict-item]


def price(unit: int) -> dict[str, Any]:
    return {"currency": "usd", "product": "prod_x", "unit_amount": unit}


def test_an_item_waits_until_an_invoice_takes_it(there: LocalStripe) -> None:
    who = customer(there)
    waiting = item(there, who, amount=70, currency="usd", description="setup")
    assert waiting.invoice is None
    assert draft(there, 100, customer=who, pending_invoice_items_behavior="exclude").subtotal == 100
    taken = draft(there, customer=who, pending_invoice_items_behavior="include")
    assert (taken.subtotal, [line.description for line in taken.lines.data]) == (70, ["setup"])
    assert there.client.v1.invoice_items.retrieve(waiting.id).invoice == taken.id
    assert draft(there, customer=who, pending_invoice_items_behavior="include").subtotal == 0


def test_an_item_is_put_on_a_draft_at_once_and_changes_with_its_line(there: LocalStripe) -> None:
    who = customer(there)
    invoice = draft(there, 100, customer=who)
    made = item(there, who, invoice=invoice.id, price_data=price(25), quantity=3)
    assert (made.amount, made.quantity) == (75, 3)
    assert there.client.v1.invoices.retrieve(invoice.id).subtotal == 175
    changed = there.client.v1.invoice_items.update(made.id, {"quantity": 4, "description": "seats"})
    assert changed.amount == 100
    now = there.client.v1.invoices.retrieve(invoice.id)
    assert (now.subtotal, now.amount_due) == (200, 200)
    assert [(line.amount, line.description) for line in now.lines.data] == [(100, "usage"), (100, "seats")]
    there.client.v1.invoice_items.update(made.id, {"price_data": price(10)})  # type: ignore[typeddict-item]
    assert there.client.v1.invoices.retrieve(invoice.id).subtotal == 140
    assert there.client.v1.invoice_items.delete(made.id).deleted
    now = there.client.v1.invoices.retrieve(invoice.id)
    assert (now.subtotal, len(now.lines.data)) == (100, 1)


def test_the_lines_that_are_added_are_items_too(there: LocalStripe) -> None:
    invoice = draft(there, 100, 20)
    listed = there.client.v1.invoice_items.list({"invoice": invoice.id}).data
    assert [each.amount for each in listed] == [20, 100]
    there.client.v1.invoice_items.update(listed[0].id, {"amount": 30})
    assert there.client.v1.invoices.retrieve(invoice.id).subtotal == 130
    line = there.client.v1.invoices.retrieve(invoice.id).lines.data[0].id
    there.client.v1.invoices.update_lines(invoice.id, {"lines": [{"id": line, "amount": 7}]})
    assert there.client.v1.invoice_items.retrieve(listed[1].id).amount == 7


def test_what_is_taken_off_a_draft_waits_again_and_can_be_put_on_another(there: LocalStripe) -> None:
    who = customer(there)
    first, second = draft(there, 100, 20, customer=who), draft(there, customer=who)
    gone = {"id": first.lines.data[1].id, "behavior": "unassign"}
    there.client.v1.invoices.remove_lines(first.id, {"lines": [gone]})  # type: ignore[list-item]
    (waiting,) = there.client.v1.invoice_items.list({"customer": who, "pending": True}).data
    assert waiting.amount == 20
    moved = there.client.v1.invoices.add_lines(second.id, {"lines": [{"invoice_item": waiting.id}]})
    assert moved.subtotal == 20
    with pytest.raises(stripe.InvalidRequestError, match="is not pending"):
        there.client.v1.invoices.add_lines(first.id, {"lines": [{"invoice_item": waiting.id}]})
    there.client.v1.invoices.delete(second.id)
    assert there.client.v1.invoice_items.list({"customer": who, "pending": True}).data == []


def test_an_item_of_a_final_invoice_can_be_read_only(there: LocalStripe) -> None:
    invoice = final(there, 100)
    (only,) = there.client.v1.invoice_items.list({"invoice": invoice.id}).data
    for act in (
        lambda: there.client.v1.invoice_items.update(only.id, {"amount": 1}),
        lambda: there.client.v1.invoice_items.delete(only.id),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            act()
        assert refused.value.code == "invoice_not_editable"
    assert there.client.v1.invoice_items.retrieve(only.id).amount == 100
    assert there.client.v1.invoices.retrieve(invoice.id).subtotal == 100


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"amount": 5, "quantity": 2}, "only specify one of these parameters: amount, quantity"),
        ({"amount": 5, "price_data": price(1)}, "only specify one of these parameters: amount, price_data"),
        ({"quantity": 2}, "Missing required param: amount"),
        ({"quantity": -2, "price_data": price(1)}, "must not be negative"),
        ({"pricing": {"price": "price_x"}}, "No such price: 'price_x'"),
        ({"unit_amount_decimal": "much"}, "Invalid decimal"),
        ({"amount": 5, "invoice": "in_x"}, "No such invoice"),
        ({"amount": 5, "currency": "eur", "invoice": True}, "in eur"),
    ],
)
def test_what_an_item_comes_to_is_said_once(there: LocalStripe, given: dict[str, Any], problem: str) -> None:
    who = customer(there)
    if given.get("invoice") is True:
        given = {**given, "invoice": draft(there, customer=who).id}
    with pytest.raises(stripe.InvalidRequestError, match=problem):
        item(there, who, **given)
    assert there.client.v1.invoice_items.list().data == []


def test_parts_of_a_cent_are_rounded_once_for_all_units(there: LocalStripe) -> None:
    who = customer(there)
    assert item(there, who, unit_amount_decimal="0.333", quantity=10, currency="usd").amount == 3
    assert item(there, who, unit_amount_decimal="0.05", quantity_decimal="10", currency="usd").amount == 1
    assert item(there, who, unit_amount_decimal="100", quantity_decimal="1.25", currency="usd").amount == 125


def test_an_invoice_has_no_more_lines_than_stripe_allows(there: LocalStripe) -> None:
    who = customer(there)
    invoice = draft(there, *range(100, 200), customer=who)
    for count in (100, 50):
        there.client.v1.invoices.add_lines(invoice.id, {"lines": [LINE] * count})  # type: ignore[list-item]
    with pytest.raises(stripe.InvalidRequestError, match="at most 250 lines"):
        item(there, who, amount=1, currency="usd", invoice=invoice.id)
    assert there.client.v1.invoice_items.list({"customer": who, "pending": True}).data == []

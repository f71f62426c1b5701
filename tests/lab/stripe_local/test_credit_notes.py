"""Credit notes at the local Stripe: by an amount or by lines, looked at before they are made."""

from typing import Any

import pytest
import stripe

from tests.lab.stripe_local.making import final
from tests.local_stripe import LocalStripe


def make(there: LocalStripe, invoice: str, **given: Any) -> stripe.CreditNote:
    return there.client.v1.credit_notes.create({"invoice": invoice, **given})  # type: ignore[typeddict-item]


def lines_of(there: LocalStripe, note: str) -> list[tuple[str, int, str | None]]:
    listed = there.client.v1.credit_notes.line_items.list(note).data
    return [(line.type, line.amount, line.invoice_line_item) for line in listed]


def test_a_note_of_an_amount_has_one_line_of_its_own(there: LocalStripe) -> None:
    note = make(there, final(there, 500).id, amount=120, memo="sorry")
    assert lines_of(there, note.id) == [("custom_line_item", 120, None)]


def test_a_note_of_lines_comes_to_what_they_come_to(there: LocalStripe) -> None:
    invoice = final(there, 500, 40)
    first = invoice.lines.data[0].id
    lines = [
        {"type": "invoice_line_item", "invoice_line_item": first, "amount": 70},
        {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[1].id, "quantity": 1},
        {"type": "custom_line_item", "description": "goodwill", "unit_amount": 5, "quantity": 3},
    ]
    note = make(there, invoice.id, lines=lines)
    assert note.amount == 125
    assert [amount for _, amount, _ in lines_of(there, note.id)] == [70, 40, 15]
    assert lines_of(there, note.id)[0][2] == first
    page = there.client.v1.credit_notes.line_items.list(note.id, {"limit": 1})
    assert [line.amount for line in page.auto_paging_iter()] == [70, 40, 15]
    assert there.client.v1.invoices.retrieve(invoice.id).amount_remaining == 415


def of_line(line: str, amount: int = 5) -> dict[str, Any]:
    return {"type": "invoice_line_item", "invoice_line_item": line, "amount": amount}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "an amount or lines"),
        ({"amount": 501}, "at most 500"),
        ({"amount": 10, "credit_amount": 10}, "only for paid invoices"),
        ({"lines": [{"type": "custom_line_item", "quantity": 2}]}, "Missing required param"),
        ({"lines": [{"type": "custom_line_item", "amount": 5}], "amount": 6}, "sum to 5, the amount is 6"),
        ({"lines": [{"type": "invoice_line_item", "amount": 5}]}, "invoice_line_item is required for lines"),
        ({"lines": [of_line("il_x")]}, "No such line_item"),
    ],
)
def test_a_note_that_does_not_fit_its_invoice_is_refused_also_when_it_is_only_looked_at(
    there: LocalStripe, given: dict[str, Any], problem: str
) -> None:
    invoice = final(there, 500)
    refused(there, invoice.id, given, problem)
    assert there.client.v1.credit_notes.list().data == []
    assert there.client.v1.invoices.retrieve(invoice.id).amount_remaining == 500


def refused(there: LocalStripe, invoice: str, given: dict[str, Any], problem: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=problem):
        make(there, invoice, **given)
    with pytest.raises(stripe.InvalidRequestError, match=problem):
        there.client.v1.credit_notes.preview({"invoice": invoice, **given})  # type: ignore[typeddict-item]


def test_a_line_is_credited_on_its_own_invoice_and_at_most_whole(there: LocalStripe) -> None:
    invoice, other = final(there, 500, 40), final(there, 100)
    refused(there, invoice.id, {"lines": [of_line(other.lines.data[0].id)]}, "No such line item")
    refused(there, invoice.id, {"lines": [of_line(invoice.lines.data[1].id, 41)]}, "no more can be credited")
    assert make(there, invoice.id, lines=[of_line(invoice.lines.data[1].id, 40)]).amount == 40


def test_a_preview_shows_the_result_and_changes_nothing(there: LocalStripe) -> None:
    invoice = final(there, 500)
    told = len(there.client.v1.events.list({"limit": 100}).data)
    seen = there.client.v1.credit_notes.preview({"invoice": invoice.id, "amount": 120})
    assert (seen.amount, seen.type, [line.amount for line in seen.lines.data]) == (120, "pre_payment", [120])
    assert there.client.v1.credit_notes.list().data == []
    assert there.client.v1.invoices.retrieve(invoice.id).amount_remaining == 500
    assert len(there.client.v1.events.list({"limit": 100}).data) == told


def test_a_notes_memo_can_be_changed_and_it_can_be_voided_while_its_invoice_is_open(there: LocalStripe) -> None:
    invoice = final(there, 500)
    note = make(there, invoice.id, amount=120)
    changed = there.client.v1.credit_notes.update(note.id, {"memo": "why", "metadata": {"a": "b"}})
    assert (changed.memo, changed.metadata.to_dict() if changed.metadata else None) == ("why", {"a": "b"})
    assert there.client.v1.credit_notes.void_credit_note(note.id).status == "void"
    assert there.client.v1.invoices.retrieve(invoice.id).amount_remaining == 500
    with pytest.raises(stripe.InvalidRequestError, match="can be voided"):
        there.client.v1.credit_notes.void_credit_note(note.id)

"""Lists at the local Stripe: by the page, forwards and backwards, and of a time."""

import re
from pathlib import Path

import httpx2
import pytest
import stripe

from tests.lab.stripe_local.making import customer, draft, final
from tests.local_stripe import LocalStripe, local_stripe


def test_pages_go_forwards_and_backwards_newest_first(there: LocalStripe) -> None:
    who = customer(there)
    newest = [draft(there, customer=who).id for _ in range(7)][::-1]
    ask = there.client.v1.invoices.list
    older = ask({"limit": 3, "starting_after": newest[1]})
    assert ([each.id for each in older.data], older.has_more) == (newest[2:5], True)
    newer = ask({"limit": 3, "ending_before": newest[4]})
    assert ([each.id for each in newer.data], newer.has_more) == (newest[1:4], True)
    assert [each.id for each in ask({"limit": 5, "ending_before": newest[2]}).data] == newest[:2]
    assert ask({"limit": 3, "starting_after": newest[3]}).has_more is False


def test_a_list_can_be_of_a_time_a_customer_and_a_state(there: LocalStripe) -> None:
    who, other = customer(there), customer(there)
    old = draft(there, customer=who)
    there.control.advance_clock(seconds=100)
    new, paid = draft(there, customer=who), final(there, 100, customer=who)
    draft(there, customer=other)
    there.client.v1.invoices.pay(paid.id)
    listed = there.client.v1.invoices.list
    bound = old.created + 50
    assert [each.id for each in listed({"customer": who, "created": {"gte": bound}}).data] == [paid.id, new.id]
    assert [each.id for each in listed({"customer": who, "created": {"lt": bound}}).data] == [old.id]
    assert [each.id for each in listed({"created": old.created}).data] == [old.id]
    assert [each.id for each in listed({"status": "paid"}).data] == [paid.id]
    assert listed({"subscription": "sub_x"}).data == []
    there.control.edit(new.id, {"created": old.created - 10})
    assert [each.id for each in listed({"customer": who}).data] == [paid.id, old.id, new.id]


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"limit": 0}, "limit must be between 1 and 100"),
        ({"limit": 101}, "limit must be between 1 and 100"),
        ({"starting_after": "in_x"}, "No such invoice: 'in_x'"),
        ({"ending_before": "in_x"}, "No such invoice: 'in_x'"),
    ],
)
def test_a_page_that_there_can_not_be_is_refused(
    there: LocalStripe, params: stripe.params.InvoiceListParams, problem: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=problem):
        there.client.v1.invoices.list(params)


def test_a_filter_that_it_does_not_know_is_not_passed_over(there: LocalStripe) -> None:
    with pytest.raises(stripe.APIError, match="does not filter by due_date"):
        there.client.v1.invoices.list({"due_date": {"gte": 1}})


def test_balances_and_notes_are_listed_by_whose_they_are(there: LocalStripe) -> None:
    who, other = customer(there), customer(there)
    for amount in (5, 7):
        given = {"amount": amount, "currency": "usd"}
        there.client.v1.customers.balance_transactions.create(who, given)  # type: ignore[arg-type]
    amounts = [each.amount for each in there.client.v1.customers.balance_transactions.list(who).data]
    assert amounts == [7, 5]
    assert there.client.v1.customers.balance_transactions.list(other).data == []
    first, second = final(there, 500, customer=who), final(there, 500, customer=other)
    for invoice, amount in ((first, 1), (second, 2), (first, 3)):
        there.client.v1.credit_notes.create({"invoice": invoice.id, "amount": amount})
    listed = there.client.v1.credit_notes.list
    assert [note.amount for note in listed({"invoice": first.id}).data] == [3, 1]
    assert [note.number for note in listed({"customer": other}).data] == [f"{second.number}-CN-01"]


def test_numbers_go_on_where_they_were_when_it_starts_again(tmp_path: Path) -> None:
    with local_stripe(state=tmp_path / "stripe.db") as there:
        who = customer(there)
        first = final(there, 100, customer=who)
    with local_stripe(state=tmp_path / "stripe.db") as there:
        second = final(there, 100, customer=who)
        assert [each.id for each in there.client.v1.invoices.list().data] == [second.id, first.id]
    assert first.number is not None
    assert second.number == f"{first.number[:-1]}2"


def test_the_page_goes_back_to_older_invoices(there: LocalStripe) -> None:
    who = customer(there)
    made = [draft(there, customer=who).id for _ in range(60)]
    seen: list[str] = []
    path = "/"
    while path:
        text = httpx2.get(there.url + path, timeout=60).text
        seen += re.findall(r"/invoices/(in_\w+)", text)
        older = re.search(r"/\?starting_after=in_\w+", text)
        path = older[0] if older else ""
    assert seen == made[::-1]

"""Addresses and tax ids of customers, and how invoices keep them."""

from typing import Any

from tests.lab.stripe_local.making import ask, customer, draft
from tests.local_stripe import LocalStripe

ADDRESS: Any = {"line1": "Invalidenstr. 1", "postal_code": "10115", "city": "Berlin", "country": "DE"}
TAX_IDS: Any = [{"type": "eu_vat", "value": "DE123456789"}]


def test_a_customer_has_its_address_and_shows_its_tax_ids_where_they_are_expanded(there: LocalStripe) -> None:
    customer_id = customer(there, address=ADDRESS, tax_id_data=TAX_IDS)
    customers = there.client.v1.customers
    assert "tax_ids" not in ask(there, "GET", f"/v1/customers/{customer_id}").json()
    found = customers.retrieve(customer_id, {"expand": ["tax_ids"]})
    assert found.address is not None
    assert (found.address.city, found.address.line2) == ("Berlin", None)
    assert found.tax_ids is not None
    assert [(each.type, each.value, each.customer) for each in found.tax_ids.data] == [
        ("eu_vat", "DE123456789", customer_id)
    ]
    (listed,) = customers.list({"expand": ["data.tax_ids"]}).data
    assert listed.tax_ids is not None
    assert [each.value for each in listed.tax_ids.data] == ["DE123456789"]


def test_an_empty_address_removes_it(there: LocalStripe) -> None:
    customer_id = customer(there, address=ADDRESS)
    there.client.v1.customers.update(customer_id, {"name": "Other"})
    assert there.client.v1.customers.retrieve(customer_id).address is not None
    there.client.v1.customers.update(customer_id, {"address": ""})
    assert there.client.v1.customers.retrieve(customer_id).address is None


def test_a_draft_follows_its_customer_and_a_final_invoice_does_not(there: LocalStripe) -> None:
    customer_id = customer(there, address=ADDRESS, tax_id_data=TAX_IDS)
    invoices = there.client.v1.invoices
    opened, left = (draft(there, 120, customer=customer_id) for _ in range(2))
    final = invoices.finalize_invoice(opened.id)
    there.client.v1.customers.update(customer_id, {"name": "Moved", "address": {**ADDRESS, "city": "Hamburg"}})

    def told(invoice_id: str) -> tuple[str | None, str | None, list[tuple[str, str | None]]]:
        found = invoices.retrieve(invoice_id)
        address = found.customer_address
        tax_ids = [(each.type, each.value) for each in found.customer_tax_ids or []]
        return found.customer_name, address.city if address else None, tax_ids

    assert told(final.id) == ("Acme", "Berlin", [("eu_vat", "DE123456789")])
    assert told(left.id) == ("Moved", "Hamburg", [("eu_vat", "DE123456789")])

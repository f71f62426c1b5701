"""Who an invoice is billed to: as the invoice at Stripe says, from its finalization on."""

from typing import Any

import pytest

from metering.db.engine import transaction
from metering.exports.make_statement import make_statement
from metering.months.queries.invoices import find_invoice
from metering.months.statements.usage_statement import Issuer
from metering.stripe.bill_to import Address, BillTo, TaxId, stored_bill_to
from metering.stripe.queries.pushes import push_views
from tests.builders import Months
from tests.stripe.reconciling import look

BERLIN = {"line1": "Invalidenstr. 1", "postal_code": "10115", "city": "Berlin", "country": "DE"}
BOSTON = {"line1": "1 Beacon St", "line2": "Suite 4", "city": "Boston", "state": "MA", "postal_code": "02108"}


def billed(months: Months, **given: Any) -> str:
    """A November of acme that is final at Stripe, for a customer there with what is given."""
    months.use("acme")
    stripe_customer_id = months.link("acme", **{"name": "Acme GmbH", **given})
    months.close_november()
    months.push_all()
    return stripe_customer_id


def bill_to(months: Months) -> BillTo | None:
    ((invoice_id,),) = months.rows("SELECT invoice_id FROM invoices")
    with transaction(months.service.engine) as connection:
        return push_views(connection, [("acme", str(invoice_id))])[str(invoice_id)].bill_to


def customer_lines(months: Months) -> list[str]:
    ((invoice_id,),) = months.rows("SELECT invoice_id FROM invoices")
    with transaction(months.service.engine) as connection:
        stored = find_invoice(connection, invoice_id=str(invoice_id))
        assert stored is not None
        return list(make_statement(connection, stored=stored, issuer=Issuer(name="Gateway Inc.")).customer)


def test_the_statement_has_the_address_and_the_tax_ids_that_stripe_has(months: Months) -> None:
    billed(months, address=BERLIN, tax_id_data=[{"type": "eu_vat", "value": "DE123456789"}])
    assert customer_lines(months) == [
        "Acme GmbH", "Invalidenstr. 1", "10115 Berlin", "DE", "EU VAT DE123456789", "acme",
    ]  # fmt: skip


def test_without_them_at_stripe_there_are_none_here(months: Months) -> None:
    billed(months)
    assert bill_to(months) == BillTo(name="Acme GmbH")
    assert customer_lines(months) == ["Acme GmbH", "acme"]


def test_before_the_invoice_is_at_stripe_the_statement_has_our_own_name(months: Months) -> None:
    months.use("acme")
    months.execute("UPDATE customers SET name = 'Acme'")
    months.close_november()
    assert bill_to(months) is None
    assert customer_lines(months) == ["Acme", "acme"]


def test_a_customer_that_moves_later_stays_where_it_was_on_its_old_invoice(months: Months) -> None:
    stripe_customer_id = billed(months, address=BERLIN)
    months.stripe.client.v1.customers.update(stripe_customer_id, {"address": BOSTON})  # type: ignore[typeddict-item]
    assert look(months).found == []
    assert "10115 Berlin" in customer_lines(months)


def test_what_an_older_release_did_not_keep_is_read_by_a_reconciliation(months: Months) -> None:
    billed(months, address=BERLIN)
    months.execute("UPDATE invoice_pushes SET bill_to = NULL")
    assert look(months).found == []
    found = bill_to(months)
    assert found is not None
    assert found.address == Address(**BERLIN)


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({**BERLIN}, ["Invalidenstr. 1", "10115 Berlin", "DE"]),
        ({**BOSTON, "country": "US"}, ["1 Beacon St", "Suite 4", "Boston, MA 02108", "US"]),
        ({"city": "Milano", "state": "MI", "postal_code": "20121", "country": "IT"}, ["20121 Milano, MI", "IT"]),
        ({"line1": "PO Box 7"}, ["PO Box 7"]),
        ({}, []),
    ],
)
def test_an_address_is_written_as_in_its_country_without_empty_lines(
    given: dict[str, str], lines: list[str]
) -> None:
    assert BillTo(address=Address(**given)).lines == lines


def test_what_is_stored_is_read_back_as_it_was() -> None:
    text = (
        '{"name":"Acme","address":{"line1":"Invalidenstr. 1","line2":null,"postal_code":"10115","city":"Berlin",'
        '"state":null,"country":"DE"},"tax_ids":[{"type":"eu_vat","value":"DE123456789"}]}'
    )
    tax_ids = (TaxId(type="eu_vat", value="DE123456789"),)
    assert stored_bill_to(text) == BillTo(name="Acme", address=Address(**BERLIN), tax_ids=tax_ids)
    assert stored_bill_to(None) is None

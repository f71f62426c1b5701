"""Test clocks of the local Stripe, as https://docs.stripe.com/billing/testing/test-clocks describes them."""

from typing import Any

import pytest
import stripe

from tests.lab.stripe_local.making import customer, draft
from tests.local_stripe import LocalStripe

FROZEN = 1_577_836_800


def clock(there: LocalStripe) -> str:
    return there.client.v1.test_helpers.test_clocks.create({"frozen_time": FROZEN, "name": "2020"}).id


def ids(listed: Any) -> list[str]:
    return [each.id for each in listed.data]


def test_what_a_customer_on_a_clock_has_is_of_its_time(there: LocalStripe) -> None:
    frozen = clock(there)
    on_it = customer(there, test_clock=frozen)
    invoice = draft(there, 120, customer=on_it)
    assert (invoice.created, invoice.test_clock) == (FROZEN, frozen)
    assert there.client.v1.customers.retrieve(on_it).created == FROZEN
    later = there.client.v1.test_helpers.test_clocks.advance(frozen, {"frozen_time": FROZEN + 60})
    assert (later.frozen_time, later.status) == (FROZEN + 60, "ready")
    final = there.client.v1.invoices.finalize_invoice(invoice.id)
    assert final.status_transitions.finalized_at == FROZEN + 60
    assert draft(there, customer=on_it).created == FROZEN + 60


def test_lists_leave_it_out_unless_they_are_of_the_clock_or_the_customer(there: LocalStripe) -> None:
    frozen = clock(there)
    on_it, elsewhere = customer(there, test_clock=frozen), customer(there)
    theirs, ours = draft(there, customer=on_it), draft(there, customer=elsewhere)
    customers, invoices = there.client.v1.customers, there.client.v1.invoices
    assert ids(customers.list()) == [elsewhere]
    assert ids(customers.list({"test_clock": frozen})) == [on_it]
    assert ids(invoices.list()) == [ours.id]
    assert ids(invoices.list({"customer": on_it})) == [theirs.id]
    assert ids(invoices.list({"customer": on_it, "created": {"gt": FROZEN}})) == []
    assert invoices.retrieve(theirs.id).id == theirs.id
    assert ids(there.client.v1.test_helpers.test_clocks.list()) == [frozen]
    assert there.client.v1.test_helpers.test_clocks.retrieve(frozen).name == "2020"


def test_a_clock_goes_forward_only_and_has_to_exist(there: LocalStripe) -> None:
    frozen = clock(there)
    with pytest.raises(stripe.InvalidRequestError):
        there.client.v1.test_helpers.test_clocks.advance(frozen, {"frozen_time": FROZEN})
    with pytest.raises(stripe.InvalidRequestError, match="No such"):
        customer(there, test_clock="clock_none")
    with pytest.raises(stripe.InvalidRequestError, match="frozen_time"):
        there.client.v1.test_helpers.test_clocks.create({"name": "no time"})  # type: ignore[typeddict-item]

"""Customers on a test clock: Stripe's lists leave their invoices out, or know them by another time."""

from datetime import UTC, datetime, timedelta

import pytest

from metering.core.clock import utc_now
from metering.customers.store import CustomerDetails
from metering.lab.stripe_local.faults import Fault
from metering.stripe.client.client import StripeClientPort
from metering.stripe.drift import DriftClass
from metering.stripe.push import PushState
from metering.stripe.put_customer import put_customer
from metering.stripe.store.operations import KEY_LIFETIME
from tests.builders import Months
from tests.local_stripe import KEY
from tests.stripe.reconciling import edit_line, look

CALLS = (
    "POST /v1/invoices",
    "POST /v1/invoices/{invoice}/add_lines",
    "POST /v1/invoices/{invoice}/finalize",
)
LONG_AGO, FAR_AHEAD = datetime(2020, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)


@pytest.fixture(params=[LONG_AGO, FAR_AHEAD], ids=["behind", "ahead"])
def on_a_clock(months: Months, request: pytest.FixtureRequest) -> str:
    """The Stripe customer of acme, whose November is closed."""
    frozen: datetime = request.param
    months.use("acme")
    client = months.stripe.client.v1
    clock = client.test_helpers.test_clocks.create({"frozen_time": int(frozen.timestamp())})
    customer = client.customers.create({"name": "acme", "test_clock": clock.id}).id
    details = CustomerDetails(stripe_customer_id=customer)
    put_customer(engine=months.service.engine, customer_id="acme", details=details, now=utc_now())
    months.close_november()
    return customer


def at_stripe(months: Months, customer: str) -> list[tuple[str, int]]:
    found = months.stripe.client.v1.invoices.list({"customer": customer, "limit": 100}).data
    return [(each.status or "", each.subtotal) for each in found]


@pytest.mark.parametrize("endpoint", CALLS)
@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.LOST_REQUEST, Fault.ERROR_AFTER])
def test_there_is_one_invoice_also_when_the_answer_is_lost_and_the_key_forgotten(
    months: Months, on_a_clock: str, endpoint: str, fault: Fault
) -> None:
    months.stripe.control.fail_next(endpoint, fault)
    assert months.push() == {PushState.UNKNOWN: 1}
    months.stripe.control.forget_keys()
    months.ahead += KEY_LIFETIME
    months.push_all()
    assert at_stripe(months, on_a_clock) == [("open", 100)]
    report = look(months)
    assert (report.found, report.theirs_cents) == ([], 100)


def test_a_push_that_knows_nothing_any_more_finds_the_invoice(months: Months, on_a_clock: str) -> None:
    """As after a restore of the database."""
    months.push_all()
    months.execute("DELETE FROM stripe_operations")
    months.execute(
        "UPDATE invoice_pushes SET state = 'pending', stripe_invoice_id = NULL, due_at = now(), version = 1"
    )
    months.push_all()
    assert at_stripe(months, on_a_clock) == [("open", 100)]


def test_drift_is_found_and_repaired(months: Months, on_a_clock: str) -> None:
    months.push_all()
    (invoice,) = months.stripe.client.v1.invoices.list({"customer": on_a_clock}).data
    edit_line(months, invoice, 40)
    assert [each.finding.drift_class for each in look(months).found] == [DriftClass.LINE]
    assert look(months, repair=True).left == []
    assert sorted(at_stripe(months, on_a_clock)) == [("open", 40), ("open", 60)]
    assert look(months).found == []
    edit_line(months, invoice, 130)
    assert look(months, repair=True).left == []
    assert look(months).found == []


def test_a_missing_invoice_is_made_again(months: Months, on_a_clock: str) -> None:
    months.push_all()
    (invoice,) = months.stripe.client.v1.invoices.list({"customer": on_a_clock}).data
    months.stripe.control.remove(invoice.id)
    assert [each.finding.drift_class for each in look(months).found] == [DriftClass.MISSING]
    assert look(months, repair=True).left == []
    assert at_stripe(months, on_a_clock) == [("open", 100)]


def test_only_in_test_mode_a_customers_whole_list_is_read(months: Months) -> None:
    """In live mode there are no test clocks, and a customer may have had many invoices."""
    months.month("acme")
    for key, bounded in ((KEY, False), ("rk_test_x", False), ("sk_live_x", True), ("rk_live_x", True)):
        port = StripeClientPort(api_key=key, api_base=months.stripe.url, limiter=months.port._limiter)
        months.stripe.control.clear_requests()
        since = utc_now() - timedelta(days=2)
        list(port.list_invoices(stripe_customer_id="cus_x", created_from=since))
        list(port.list_invoices(stripe_customer_id=None, created_from=since))
        of_one, of_all = (each["params"] for each in months.stripe.control.requests())
        assert ("created" in of_one) == bounded
        assert "created" in of_all

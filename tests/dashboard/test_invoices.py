"""The invoices page by status, and the page of an invoice: as finance and as its customer see them."""

import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.access.scopes import Role
from metering.core.clock import utc_now
from metering.stripe.reconcile import reconcile
from metering.stripe.repair_drift import Caps
from tests.builders import Months
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import rows_of
from tests.running_api import Api, signed_in

PERIOD = "2026-11"


@pytest.fixture
def api(months: Months) -> Iterator[Api]:
    with signed_in(months.service) as running:
        yield running


@pytest.fixture
def admin(api: Api) -> Browser:
    return browse(api)


STATES = {
    "open": ("final", timedelta(days=3)),
    "undated": ("final", None),
    "late": ("final", timedelta(days=-3)),
    "paid": ("paid", timedelta(days=-9)),
    "stuck": ("stuck", None),
    "unlinked": ("unlinked", None),
    "new": ("pending", None),
}


@pytest.fixture
def invoiced(months: Months) -> Months:
    """An invoice in each status, of 100 cents each."""
    months.month(*STATES)
    for customer_id, (state, due) in STATES.items():
        at = "NULL" if due is None else f"'{(utc_now() + due).isoformat()}'"
        months.execute(
            f"UPDATE invoice_pushes SET state = '{state}', payment_due_at = {at}, due_at = NULL,"
            f" problem = 'because of {state}' WHERE customer_id = '{customer_id}'"
        )
    return months


def tabs(page: str) -> dict[str, tuple[str, str]]:
    """Count and sum by the name of the tab."""
    found = re.findall(r">([A-Z][a-z ]+) <span class=\"count\">([^<]+)</span><span class=\"under\">([^<]+)<", page)
    return {name: (count, billed) for name, count, billed in found}


@pytest.mark.usefixtures("invoiced")
def test_each_status_has_its_count_and_sum_and_lists_what_it_counts(admin: Browser) -> None:
    page = admin.get("invoices").text
    assert tabs(page) == {
        "All": ("7", "$7.00"),
        "Draft": ("1", "$1.00"),
        "Open": ("2", "$2.00"),
        "Paid": ("1", "$1.00"),
        "Past due": ("1", "$1.00"),
        "Needs attention": ("2", "$2.00"),
    }
    assert f'value="{PERIOD}"' in page
    assert f"Downloads for {PERIOD}:" in page
    listed = {
        status: {row["customer_id"] for row in rows_of(admin.get("invoices", status=status, csv="invoices").text)}
        for status in ("draft", "open", "paid", "past_due", "attention")
    }
    assert listed == {
        "draft": {"new"},
        "open": {"open", "undated"},
        "paid": {"paid"},
        "past_due": {"late"},
        "attention": {"stuck", "unlinked"},
    }


@pytest.mark.usefixtures("invoiced")
def test_the_last_row_sums_the_whole_tab_on_every_page_of_it(admin: Browser) -> None:
    page = admin.get("invoices", status="attention").text
    footer = page[page.index("<tfoot>") : page.index("</tfoot>")]
    assert "Sum of 2" in footer
    assert "$2.00" in footer


@pytest.mark.usefixtures("invoiced")
def test_what_needs_attention_is_explained_with_what_to_do(admin: Browser) -> None:
    page = admin.get("invoices", status="attention").text
    assert "The customer has no Stripe customer: link one, and it is pushed. because of unlinked" in page
    assert "Remove the cause, then push the month again. because of stuck" in page


def test_what_is_past_due_in_another_month_is_said_and_listed_over_all_months(
    invoiced: Months, admin: Browser
) -> None:
    page = admin.get("invoices", month="2026-12").text
    assert "In other months:" in page
    (href,) = re.findall(r'href="/dashboard/(invoices\?month=&amp;status=past_due)"', page)
    everywhere = admin.get(href.replace("&amp;", "&"))
    assert "2026-11-0000" in everywhere.text
    assert tabs(everywhere.text)["Past due"] == ("1", "$1.00")
    assert invoiced.rows("SELECT count(*) FROM invoices") == [(7,)]


@pytest.mark.usefixtures("invoiced")
def test_a_customer_sees_its_invoices_and_no_word_of_what_is_between_us_and_stripe(api: Api) -> None:
    browser = browse(api, Role.READ, "stuck")
    page = browser.get("invoices").text
    assert set(tabs(page)) == {"All", "Open", "Paid", "Past due"}
    (row,) = rows_of(browser.get("invoices", csv="invoices").text)
    assert row["status"] == "draft"
    shown = browser.get("invoice", invoice_id=row["number"]).text
    for words in ("because of stuck", "Needs attention", "push the month again"):
        assert words not in page + shown


def test_an_invoice_shows_quantity_times_rate_and_its_way_to_the_payment(months: Months, admin: Browser) -> None:
    months.month("acme")
    months.push_all(days_until_due=14)
    (number,) = (row[0] for row in months.rows("SELECT number FROM invoices"))
    page = admin.get("invoice", invoice_id=str(number)).text
    plain = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Input tokens 812 × $5.00 per 1M 812 $5.00 per 1M $0.00406" in plain
    assert "Output tokens 40,000 × $25.00 per 1M 40,000 $25.00 per 1M $1.00000" in plain
    assert "How it was rounded" in plain
    steps = re.findall(r'<li data-done="(\w+)"><strong>(\w+)</strong>', page)
    assert steps == [("yes", "Closed"), ("yes", "Pushed"), ("yes", "Finalized"), ("no", "Due"), ("no", "Paid")]
    rates = rows_of(admin.get("invoice", invoice_id=str(number), csv="rates").text)
    lines = rows_of(admin.get("invoice", invoice_id=str(number), csv="lines").text)
    assert sum(Decimal(row["amount_usd"]) for row in rates) == sum(Decimal(row["exact_usd"]) for row in lines)


def test_an_invoice_names_who_it_is_billed_to_with_address_and_tax_id(months: Months, admin: Browser) -> None:
    months.use("acme")
    address = {"line1": "Invalidenstr. 1", "postal_code": "10115", "city": "Berlin", "country": "DE"}
    months.link("acme", name="<Acme> GmbH", address=address, tax_id_data=[{"type": "eu_vat", "value": "DE1"}])
    months.close_november()
    (number,) = (row[0] for row in months.rows("SELECT number FROM invoices"))
    assert "<dt>Address</dt>" not in admin.get("invoice", invoice_id=str(number)).text
    months.push_all()
    page = admin.get("invoice", invoice_id=str(number)).text
    assert "<dt>Name</dt><dd>&lt;Acme&gt; GmbH</dd>" in page
    assert "<dt>Address</dt><dd>Invalidenstr. 1<br>10115 Berlin<br>DE</dd>" in page
    assert "<dt>Tax ID</dt><dd>EU VAT DE1</dd>" in page


def test_an_invoice_says_how_stripe_differs_until_it_is_repaired(months: Months, admin: Browser) -> None:
    months.month("acme")
    months.push_all()
    (number,) = (row[0] for row in months.rows("SELECT number FROM invoices"))
    theirs = months.stripe.client.v1.invoices.list().data[0]
    params: Any = {"customer": theirs.customer, "metadata": theirs.metadata.to_dict() if theirs.metadata else {}}
    months.stripe.client.v1.invoices.create(params)
    caps = Caps(cents=10_000, share=Decimal("0.05"))
    for repair, said in ((False, True), (True, False)):
        reconcile(pusher=months.pusher(), period=None, repair=repair, caps=caps, requested_by="test")
        assert ("All findings" in admin.get("invoice", invoice_id=str(number)).text) is said


def test_a_paid_invoice_has_the_time_of_its_payment_in_its_timeline(months: Months, admin: Browser) -> None:
    months.month("acme")
    months.push_all(days_until_due=14)
    months.stripe.client.v1.invoices.pay(months.stripe.client.v1.invoices.list().data[0].id)
    months.execute("UPDATE invoice_pushes SET due_at = now()")
    months.push_all(days_until_due=14)
    (number,) = (row[0] for row in months.rows("SELECT number FROM invoices"))
    page = admin.get("invoice", invoice_id=str(number)).text
    assert re.search(r'<li data-done="yes"><strong>Paid</strong> <time datetime="20', page)

"""Ten tasks of finance people in a real browser, each in few clicks from the overview."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.pages import Dashboard
from tests.builders.seeded import Seeded

pytestmark = pytest.mark.long


@dataclass
class Person:
    """Somebody at the overview, whose clicks and typed words are counted."""

    page: Page
    clicks: int = 0
    typed: list[str] = field(default_factory=list)

    def click(self, place: Locator) -> None:
        place.click()
        self.clicks += 1

    def rail(self, name: str) -> None:
        """Click an entry of the rail, and wait until its page is there."""
        entry = self.page.get_by_role("navigation").get_by_role("link", name=name).first
        path = (entry.get_attribute("href") or "").partition("?")[0]
        self.click(entry)
        self.page.wait_for_url(lambda url: urlsplit(url).path == path)

    def show(self, month: str) -> None:
        """See the page of a month, which on the first day of a month is not the one that opens by itself."""
        self.page.wait_for_load_state()
        self.page.goto(f"{self.page.url.partition('?')[0]}?month={month}")

    def type(self, place: Locator, text: str, *, enter: bool = False) -> None:
        place.fill(text)
        self.typed.append(text)
        if enter:
            place.press("Enter")


@pytest.fixture
def person(dashboard: Dashboard) -> Person:
    return Person(dashboard.open(""))


def test_an_amount_is_explained_down_to_its_events_and_up_to_stripe(person: Person, seeded: Seeded) -> None:
    page = person.page
    person.rail("Invoices")
    person.click(page.locator("#invoices tbody tr", has_text=seeded.period).first.locator("th a"))
    expect(page.locator("body")).to_contain_text("Stripe invoice")
    person.click(page.locator("#lines tbody th a").first)
    expect(page.locator("p.sum")).to_contain_text("Its entries sum to exactly this amount")
    person.click(page.locator("#entries td.code a").first)
    expect(page.locator("main")).to_contain_text("stream-start")
    expect(page.locator("main")).to_contain_text("Verification")
    assert person.clicks == 4


def test_who_grew_most_and_why(person: Person) -> None:
    page = person.page
    person.rail("Customers")
    person.click(page.locator("#customers thead").get_by_role("link", name=re.compile("Change|Before")).first)
    expect(page.locator("#customers tbody tr").first).to_contain_text("%")
    person.click(page.locator("#customers tbody tr th a").first)
    expect(page.locator("#models")).to_contain_text("%")
    assert person.clicks == 3


def test_what_keeps_a_month_open(person: Person, seeded: Seeded) -> None:
    page = person.page
    person.rail("Month end")
    person.show(seeded.period)
    row = page.locator("#month-end tbody tr", has_text="Oscorp")
    expect(row).to_contain_text("the customer has no Stripe id")
    person.click(row.get_by_role("link").first)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Oscorp")
    expect(page.locator("main")).to_contain_text("unlinked")
    assert person.clicks == 2


def test_a_customer_is_credited(person: Person) -> None:
    page = person.page
    person.rail("Customers")
    person.click(page.locator("#customers").get_by_role("link", name="Tyrell Optics"))
    person.type(page.get_by_label("US dollars"), "1.50")
    person.type(page.get_by_label("Reason, on the invoice"), "an outage on Monday")
    person.click(page.get_by_role("button", name="Preview"))
    expect(page.locator("dl.factlist")).to_contain_text("-$1.50")
    person.click(page.get_by_role("button", name="Book it"))
    expect(page.get_by_role("status")).to_contain_text("booked")
    assert (person.clicks, len(person.typed)) == (4, 2)


def test_the_invoice_of_a_stripe_number_is_found(person: Person, seeded: Seeded) -> None:
    page = person.page
    invoices = seeded.api.client.get("/v1/invoices", params={"limit": "100"}).json()["data"]
    invoice = next(each for each in invoices if each["stripe_number"])
    page.keyboard.press("/")
    person.type(page.get_by_role("searchbox", name="Search"), invoice["stripe_number"], enter=True)
    person.click(page.locator("main").get_by_role("link", name=invoice["number"]))
    expect(page.get_by_role("heading", level=1)).to_contain_text(invoice["number"])
    assert (person.clicks, len(person.typed)) == (1, 1)


def test_a_customer_is_sent_its_page(person: Person, seeded: Seeded, chromium: Browser) -> None:
    page = person.page
    person.rail("Customers")
    person.show(seeded.period)
    person.click(page.locator("#customers").get_by_role("link", name="Hooli"))
    person.click(page.get_by_role("button", name="Make a link"))
    address = page.locator("code.secret").inner_text()
    assert person.clicks == 3
    customer = Person(chromium.new_context().new_page())
    customer.page.goto(address)
    assert "mk_" not in customer.page.url
    expect(customer.page.get_by_label("Key")).to_be_hidden()
    customer.click(customer.page.get_by_role("button", name="Open the page"))
    expect(customer.page.get_by_role("heading", level=1)).to_contain_text("Hooli")
    expect(customer.page.get_by_role("navigation")).not_to_contain_text("Backlog")
    customer.page.context.close()


def test_a_month_is_exported_for_the_ledger(person: Person, seeded: Seeded, tmp_path: Path) -> None:
    page = person.page
    person.rail("Invoices")
    with page.expect_download() as caught:
        person.click(page.locator('.downloads a[href*="/invoice-lines.csv?period="]'))
    assert seeded.period in caught.value.suggested_filename
    caught.value.save_as(tmp_path / "lines.csv")
    assert (tmp_path / "lines.csv").read_text(encoding="utf-8-sig").count("\n") > 20
    assert person.clicks == 2


def test_whether_a_number_is_final_stands_beside_it(person: Person, seeded: Seeded) -> None:
    page = person.page
    expect(page.locator(".headline")).to_contain_text("Month to date, final")
    expect(page.locator(".headline")).to_contain_text("not final")
    person.click(page.get_by_role("link", name="previous month"))
    person.show(seeded.period)
    expect(page.locator(".headline")).to_contain_text(re.compile(r"20\d\d, final"))
    expect(page.locator(".headline")).to_contain_text("0 streams not final")
    assert person.clicks == 1


def test_what_an_alert_means(person: Person) -> None:
    page = person.page
    person.rail("Alerts")
    person.click(page.locator("#occurrences").get_by_role("link", name="Budget of Hooli").first)
    expect(page.locator("main")).to_contain_text("Scope: Hooli")
    expect(page.locator("main")).to_contain_text(re.compile(r"80\s?%"))
    assert person.clicks == 2


def test_which_streams_the_clients_of_a_customer_cancelled(person: Person, seeded: Seeded) -> None:
    page = person.page
    person.rail("Customers")
    person.show(seeded.period)
    person.click(page.locator("#customers").get_by_role("link", name="Hooli"))
    person.click(page.locator("#outcomes tbody tr", has_text="cancelled").first.get_by_role("link"))
    expect(page.locator("#streams tbody tr").first).to_be_visible()
    expect(page.locator("main")).to_contain_text("Outcome is cancelled")
    assert person.clicks == 3

"""What a customer sees of the dashboard: its own figures, and no sentence that is meant for staff."""

import re

import pytest

from metering.access.scopes import Role
from metering.customers.store import CustomerDetails
from metering.stripe.put_customer import put_customer
from tests.builders import Months
from tests.builders.seeded import CONFLICTING, Seeded
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.crawling import pages_of, text_of
from tests.running_api import signed_in

# Words for who runs the service. A customer may check a receipt with `metering verify`.
OF_STAFF = re.compile(
    r"backlog|(?-i:metering) (?!verify)[a-z-]+ |POST /|PUT /|\badmin\b|\bworkers?\b|unlinked|cus_\w|Finalizing"
    r"|genai-prices|reconcil|\baudit\b|at Stripe|/readyz|settle"
    r"|orphaned|unpriced|conflicting|unmeasured|misdated",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    "words", ["the backlog", "metering audit ", "POST /v1/grants", "an admin", "cus_1", "unlinked"]
)
def test_words_for_staff_are_known(words: str) -> None:
    assert OF_STAFF.search(words)


def test_no_page_says_to_a_customer_what_staff_has_to_do(bound: Browser) -> None:
    pages = pages_of(bound)
    pages |= {
        path: bound.get(path).text
        for path in (
            f"stream?customer_id=hooli&stream_id={CONFLICTING}",
            f"streams?q={CONFLICTING}",
            f"search?q={CONFLICTING}",
            "search?q=nothing",
        )
    }
    assert len(pages) > 20
    said = {address: OF_STAFF.findall(text_of(page)) for address, page in pages.items()}
    assert {address: words for address, words in said.items() if words} == {}


def test_nor_where_there_is_nothing_yet(months: Months) -> None:
    months.use("acme")
    with signed_in(months.service) as api:
        browser = browse(api, Role.READ, "acme")
        pages = pages_of(browser) | {"stream": browser.get("stream", customer_id="acme", stream_id="s").text}
        said = {address: OF_STAFF.findall(text_of(page)) for address, page in pages.items()}
    assert {address: words for address, words in said.items() if words} == {}


def test_a_customer_is_told_that_the_cost_of_a_stream_is_not_known_yet(bound: Browser, admin: Browser) -> None:
    page = text_of(bound.get("stream", customer_id="hooli", stream_id=CONFLICTING).text)
    assert "Its cost is not known yet. It is not billed until it is." in page
    assert re.search(r"Costs are .+; the cost of \d+ ended streams is not known yet\.", page)
    assert "settle it" in text_of(admin.get("stream", customer_id="hooli", stream_id=CONFLICTING).text)


def test_a_customer_with_an_unusable_time_zone_is_not_asked_to_set_another(months: Months) -> None:
    months.use("acme")
    put_customer(
        engine=months.service.engine, customer_id="acme", details=CustomerDetails(name="Acme"), now=months.now()
    )
    months.execute("UPDATE customers SET time_zone = 'Mars/Olympus' WHERE customer_id = 'acme'")
    with signed_in(months.service) as api:
        assert "cannot be closed" in browse(api).get("customer", customer_id="acme").text
        page = text_of(browse(api, Role.READ, "acme").get("").text)
    assert "cannot be closed" not in page
    assert "unusable" not in page.replace("Times are in UTC: the time zone", "")


def test_staff_is_still_told_what_to_do(seeded: Seeded, admin: Browser) -> None:  # noqa: ARG001 - the seed is shown
    assert "in the backlog" in text_of(admin.get("").text)
    assert "An admin books them below" in text_of(admin.get("customer", customer_id="hooli").text)

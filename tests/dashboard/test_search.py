"""The search finds what people have at hand: a name, an id, an invoice's number; and only what a key may read."""

import pytest
from pydantic import SecretStr

from metering.access.scopes import Role
from metering.dashboard.deployment import deployment_of
from metering.server.settings import Settings
from tests.builders.seeded import OPEN, Seeded
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import links_of


def found(browser: Browser, words: str) -> set[str]:
    """The pages that a search leads to, in the page's main part."""
    page = browser.get("search", q=words).text
    return {link for link in links_of(page[page.index("<main") : page.index("</main>")]) if "csv=" not in link}


@pytest.mark.parametrize("words", ["umbrella", "UMBRELLA", "robot", "Umbrella Rob", "brell"])
def test_a_customer_is_found_by_any_part_of_its_id_or_name(admin: Browser, words: str) -> None:
    assert "/dashboard/customer?customer_id=umbrella" in found(admin, words)


def test_a_stream_is_found_by_how_its_id_begins_the_exact_one_first(admin: Browser) -> None:
    for words in (OPEN, OPEN[:-1], OPEN[:4]):
        assert f"/dashboard/stream?customer_id=hooli&stream_id={OPEN}" in found(admin, words)
    assert not any("stream?" in link for link in found(admin, OPEN[1:]))


def test_an_invoice_is_found_by_its_number_its_id_and_stripes(admin: Browser, seeded: Seeded) -> None:
    invoice = seeded.api.client.get("/v1/invoices", params={"customer_id": "hooli"}).json()["data"][0]
    page = f"/dashboard/invoice?invoice_id={invoice['invoice_id']}"
    names = [invoice["number"], invoice["number"].lower(), invoice["number"][:-1], invoice["invoice_id"]]
    names += [invoice["stripe_invoice_id"], invoice["stripe_number"], invoice["stripe_number"].lower()]
    for words in names:
        assert page in found(admin, words), words
    hooli = seeded.api.client.get("/v1/customers/hooli").json()
    assert "/dashboard/customer?customer_id=hooli" in found(admin, hooli["stripe_customer_id"])


@pytest.mark.parametrize("words", ["nothing-is-called-so", "%", "_", "'", "50%", "<b>", "日本", "ﬁ"])
def test_what_is_not_there_is_said_with_what_can_be_found(admin: Browser, words: str) -> None:
    page = admin.get("search", q=words).text
    assert "Nothing is called like this" in page
    assert "Customers are found by a part of their name" in page


def test_a_search_for_nothing_says_what_can_be_found(admin: Browser) -> None:
    assert "Type a name or an id" in admin.get("search").text


def test_a_customer_finds_its_own_only(seeded: Seeded, admin: Browser) -> None:
    bound = browse(seeded.api, Role.READ, customer_id="hooli")
    assert found(bound, "umbrella") == set()
    assert found(bound, "wonka-1101") == set() != found(admin, "wonka-1101")
    number = seeded.api.client.get("/v1/invoices", params={"customer_id": "wonka"}).json()["data"][0]["number"]
    assert found(bound, number) == set() != found(admin, number)
    assert any(OPEN in link for link in found(bound, OPEN))


def test_the_search_is_on_every_page(admin: Browser) -> None:
    for path in ("", "streams", "keys"):
        assert 'action="/dashboard/search"' in admin.get(path).text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "No Stripe"),
        ({"stripe_api_key": SecretStr("sk_test_1")}, "Stripe test"),
        ({"stripe_api_key": SecretStr("rk_live_1")}, "Stripe live"),
        (
            {"stripe_api_key": SecretStr("sk_test_1"), "stripe_api_base": "http://127.0.0.1:1"},
            "Local Stripe: no money moves",
        ),
    ],
)
def test_a_page_says_which_stripe_it_bills_with(changes: dict[str, object], says: str) -> None:
    settings = Settings().model_copy(update={"environment": "staging", **changes})
    assert [name for name, _ in deployment_of(settings)] == ["staging", says]


def test_a_customer_does_not_see_which_deployment_it_is(seeded: Seeded, admin: Browser) -> None:
    bound = browse(seeded.api, Role.READ, customer_id="hooli")
    assert 'data-kind="environment"' in admin.get("").text
    assert 'data-kind="environment"' not in bound.get("").text

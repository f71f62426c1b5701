"""Ids that differ only in case, Unicode form or spaces are pointed out wherever customers are listed."""

from typing import Any

import pytest

from metering.access.store.keys import Role
from tests.builders.posted import stream
from tests.dashboard.browsing import Browser
from tests.running_api import Api, put


def similar(api: Api) -> dict[str, list[str]]:
    listed = api.client.get("/v1/customers").json()["data"]
    return {each["customer_id"]: each["similar_customer_ids"] for each in listed}


def use(api: Api, *customer_ids: str) -> None:
    events: list[dict[str, Any]] = []
    for customer_id in customer_ids:
        events += [{**event, "subject": customer_id} for event in stream("s")]
    assert api.post(events).status_code == 200
    api.finalize()


@pytest.mark.parametrize("other", ["Acme", "acme ", " ac me", "ACME", "\uff41cme", "a\u00a0cme"])
def test_an_id_written_in_another_way_is_named_beside_each_of_the_two(api: Api, other: str) -> None:
    use(api, "acme", other, "acme-2")
    assert similar(api) == {"acme": [other], other: ["acme"], "acme-2": []}


def test_letters_beyond_ascii_are_compared_by_their_form_and_case(api: Api) -> None:
    composed, decomposed, upper = "caf\u00e9", "cafe\u0301", "CAF\u00c9"
    use(api, composed, decomposed, upper, "cafe")
    found = similar(api)
    assert sorted(found[composed]) == sorted([decomposed, upper])
    assert found["cafe"] == []


def test_whoever_creates_a_customer_is_told_and_a_bound_key_is_not(api: Api) -> None:
    put(api, "/v1/customers/acme", name="Acme")
    assert put(api, "/v1/customers/Acme", name="Acme")["similar_customer_ids"] == ["acme"]
    with api.client_with(Role.READ, "acme") as bound:
        (only,) = bound.get("/v1/customers").json()["data"]
    assert (only["customer_id"], only["similar_customer_ids"]) == ("acme", [])


def test_the_dashboard_points_them_out_to_staff(api: Api) -> None:
    use(api, "acme", "Acme", "bolt")
    browser, bound = Browser(api), Browser(api, Role.READ, "acme")
    browser.sign_in()
    bound.sign_in()
    told = "differ only in case, Unicode form or spaces"
    month = {"month": "2026-11"}
    for page in (browser.get("customers", **month).text, browser.get("customers", q="ac").text):
        assert page.count(told) == 1
        assert "customer?customer_id=Acme" in page
    assert "customer?customer_id=Acme" in browser.get("customer", customer_id="acme").text
    assert told not in browser.get("customer", customer_id="bolt").text
    assert "customer_id=Acme" not in bound.get("customer", customer_id="acme").text

"""A stream whose facts are in an archive, asked for over the API and on the dashboard."""

import pytest

from metering.access.scopes import Role
from tests.builders.archives import Archives
from tests.dashboard.browsing import browse
from tests.running_api import Api


@pytest.fixture
def moved(archives: Archives) -> Archives:
    archives.move("2026-09")
    return archives


@pytest.mark.parametrize("path", ["", "/receipt", "/events"])
def test_the_stream_its_receipt_and_its_events_are_gone_to_a_named_archive(
    moved: Archives, api: Api, path: str
) -> None:
    assert moved
    answer = api.client.get(f"/v1/streams/acme/first{path}")
    assert answer.status_code == 410
    problem = answer.json()
    assert problem["type"] == "/problems/stream-archived"
    assert "in the archive 2026-09; its charge stays" in problem["detail"]
    assert api.client.get(f"/v1/streams/acme/never{path}").status_code == 404


def test_a_completion_is_looked_up_the_same_way(moved: Archives, api: Api) -> None:
    assert moved
    asked = {"customer_id": "acme", "id": "first"}
    assert api.client.get("/v1/generations", params=asked).status_code == 410
    assert api.client.get("/v1/generations", params={**asked, "id": "never"}).status_code == 404


def test_another_customer_does_not_learn_what_is_archived(moved: Archives, api: Api) -> None:
    assert moved
    stranger = api.client_with(Role.READ, customer_id="other")
    for stream_id in ("first", "never"):
        assert stranger.get(f"/v1/streams/acme/{stream_id}").status_code == 403


def test_its_charge_and_its_cost_are_as_before(moved: Archives, api: Api) -> None:
    assert moved
    asked = {"customer_id": "acme", "from": "2026-09-01T00:00:00Z"}
    charges = api.client.get("/v1/charges", params=asked).json()["data"]
    assert "first" in {charge["stream_id"] for charge in charges}


def test_a_decision_about_it_is_refused_with_the_archive(moved: Archives, api: Api) -> None:
    assert moved
    decision = {"action": "write_off", "reason": "test"}
    assert api.client.post("/v1/streams/acme/first/resolution", json=decision).status_code == 410


def test_its_page_says_so_to_staff_and_to_the_customer_without_an_operators_words(
    moved: Archives, api: Api
) -> None:
    assert moved
    for customer_id in (None, "acme"):
        browser = browse(api, Role.READ, customer_id=customer_id)
        page = browser.http.get("/dashboard/stream", params={"customer_id": "acme", "stream_id": "first"})
        assert page.status_code == 410
        assert "in the archive 2026-09; its cost stays in totals" in page.text
        assert "metering archive" not in page.text
        browser.http.close()

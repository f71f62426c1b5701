"""Settling a stream of the backlog: both candidates, what is booked, and a yes to exactly that."""

import re

import pytest

from metering.access.scopes import Role
from tests.builders.posted import event, stream
from tests.builders.seeded import UNPRICED
from tests.dashboard.browsing import Browser, browse
from tests.running_api import Api


@pytest.fixture
def admin(api: Api) -> Browser:
    return browse(api)


def post_conflict(api: Api) -> None:
    """Two starts of different models, of a customer that has a name."""
    api.client.put("/v1/customers/acme", json={"name": "Acme Rockets"})
    other = stream("s", model="claude-opus-4.1", time="2026-11-23T15:00:01Z")[0]
    assert api.post([*stream("s"), {**other, "source": "/gateways/eu-2"}]).json()["rejected"] == []
    api.finalize()


def version_of(page: str) -> str:
    found = re.search(r'name="version" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def settle_page(browser: Browser, **query: str) -> str:
    return browser.get("settle", **{"customer_id": "acme", "stream_id": "s", **query}).text


def fields(page: str, **changes: str) -> dict[str, str]:
    given = {"customer_id": "acme", "stream_id": "s", "action": "bill_as_is", "reason": "the first was right"}
    return {**given, "version": version_of(page), **changes}


def test_both_candidates_are_side_by_side_with_what_each_costs(api: Api, admin: Browser) -> None:
    post_conflict(api)
    backlog = admin.get("backlog").text
    assert "/dashboard/settle?customer_id=acme&amp;stream_id=s" in backlog
    page = settle_page(admin)
    for text in ("A: wins", "claude-opus-4.7", "claude-opus-4.1", "$0.004985", "$0.014955", "/gateways/eu-2"):
        assert text in page, text
    assert "book a correction of $0.00997" in page
    assert "no further event can settle two different stream-starts" in page


def test_a_decision_is_confirmed_by_what_it_books_and_then_booked(api: Api, admin: Browser) -> None:
    post_conflict(api)
    first = settle_page(admin)
    page = settle_page(admin, action="bill_as_is", reason="the first was right", version=version_of(first))
    assert "Book $0.004985 for stream s of Acme Rockets?" in page
    assert "conflicting" in admin.get("backlog").text
    done = admin.http.post("/dashboard/backlog/settle", data={**fields(page), "token": admin.token()})
    assert done.status_code == 303
    assert 'role="status"' in admin.http.get(done.headers["location"]).text
    api.finalize()
    assert api.client.get("/v1/streams/acme/s").json()["cost_usd_cents"] == "0.4985"
    assert "the first was right" in admin.get("stream", customer_id="acme", stream_id="s").text
    again = admin.http.post("/dashboard/backlog/settle", data={**fields(page), "token": admin.token()})
    assert (again.status_code, "it is not in the backlog" in again.text) == (422, True)


def test_a_confirmation_is_refused_with_what_changed_and_shows_what_is_there_now(api: Api, admin: Browser) -> None:
    post_conflict(api)
    page = settle_page(admin, action="bill_as_is", reason="x")
    earlier = stream("s", model="claude-opus-4.5", time="2026-11-23T14:00:00Z")[0]
    api.post([earlier])
    api.finalize()
    refused = admin.http.post("/dashboard/backlog/settle", data={**fields(page), "token": admin.token()})
    assert refused.status_code == 409
    assert "another stream-start has arrived" in refused.text
    assert "claude-opus-4.5" in refused.text
    assert api.client.get("/v1/streams/acme/s").json()["state"] == "conflicting"
    # Looking is refused in the same way: what is asked is about what was seen.
    stale = settle_page(admin, action="bill_as_is", reason="x", version=version_of(page))
    assert "another stream-start has arrived" in stale
    assert "Book $" not in stale


def test_without_the_page_that_says_what_is_booked_nothing_is_recorded(api: Api, admin: Browser) -> None:
    post_conflict(api)
    given = {**fields(settle_page(admin)), "version": "", "token": admin.token()}
    assert admin.http.post("/dashboard/backlog/settle", data=given).status_code == 409
    assert api.client.get("/v1/streams/acme/s").json()["state"] == "conflicting"


def test_only_an_admin_settles_and_says_why(api: Api, admin: Browser) -> None:
    start = {"stream_id": UNPRICED, "provider": "mystery", "model": "none", "input_tokens": 1}
    end = {"stream_id": UNPRICED, "outcome": "completed", "usage": {"input_tokens": 1, "output_tokens": 9}}
    api.post([event("stream-start", start), event("stream-end", end)])
    api.finalize()
    reader = browse(api, Role.READ)
    read = settle_page(reader, stream_id=UNPRICED)
    assert "Settling a stream needs a key with role admin" in read
    own = settle_page(admin, stream_id=UNPRICED)
    given = fields(own, stream_id=UNPRICED, action="write_off", reason="never agreed")
    refused = reader.http.post("/dashboard/backlog/settle", data={**given, "token": reader.token()})
    assert refused.status_code == 403
    token = admin.token()
    for wrong, says in (
        ({"reason": " "}, "reason: required"),
        ({"action": "forget"}, "action: one of"),
        ({"action": "bill_as_is"}, "bill_as_is needs a conflicting stream"),
        ({"stream_id": "none"}, "has no stream"),
    ):
        answer = admin.http.post("/dashboard/backlog/settle", data={**given, **wrong, "token": token})
        assert (answer.status_code, says in answer.text.replace("&#39;", "'")) == (422, True), answer.text
    page = settle_page(admin, stream_id=UNPRICED, action="write_off", reason="never agreed")
    assert f"Write off stream {UNPRICED} of acme, and book $0.00?" in page
    assert admin.http.post("/dashboard/backlog/settle", data={**given, "token": token}).status_code == 303
    api.finalize()
    assert "The backlog is empty" in admin.get("backlog").text


def test_what_is_not_in_the_backlog_has_no_such_page(api: Api, admin: Browser) -> None:
    api.post(stream("well"))
    api.finalize()
    assert admin.http.get("/dashboard/settle?customer_id=acme&stream_id=well").status_code == 404

"""Credits on the dashboard: the balance and when it runs out; grants made, voided and refunded once."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from metering.access.scopes import Role
from tests.builders.posted import stream
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import hidden_fields, rows_of
from tests.running_api import Api, bill


@pytest.fixture
def admin(api: Api) -> Browser:
    assert bill(api, stream("s"))["cost_usd_cents"] == "0.4985"
    return browse(api)


def make(admin: Browser, **changes: str) -> httpx2.Response:
    page = admin.get("credits", customer_id="acme").text
    fields = {"usd": "120", "paid_usd": "$100", "funding": "external", "priority": "500", "reason": "Order 7"}
    return admin.http.post("/dashboard/credits/create", data={**hidden_fields(page), **fields, **changes})


def grants(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.client.get("/v1/grants").json()["data"]
    return found


def test_a_grant_is_made_and_shown_with_its_balance(api: Api, admin: Browser) -> None:
    answer = make(admin, expires="2099-01-31", models="gpt-5.5, claude-opus-4.7")
    assert answer.status_code == 303
    (grant,) = grants(api)
    assert (grant["amount_usd_cents"], grant["paid_usd_cents"]) == ("12000", "10000")
    assert grant["only"]["models"] == ["gpt-5.5", "claude-opus-4.7"]
    shown = admin.http.get(answer.headers["location"]).text
    assert f"Grant {grant['grant_id']} made." in shown
    assert "$120.00" in shown
    page = admin.get("credits", customer_id="acme").text
    assert "$120.00 expires on 2099-01-31" in page
    assert "gpt-5.5, claude-opus-4.7" in page


def test_the_form_sent_twice_makes_one_grant(api: Api, admin: Browser) -> None:
    page = hidden_fields(admin.get("credits", customer_id="acme").text)
    fields = {"usd": "5", "paid_usd": "0", "funding": "none", "priority": "500", "reason": "Welcome"}
    for _ in range(2):
        answer = admin.http.post("/dashboard/credits/create", data={**page, **fields})
        assert answer.status_code == 303
    assert len(grants(api)) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"usd": "1e3"}, "usd"),
        ({"usd": ""}, "usd"),
        ({"usd": "0"}, "amount_usd_cents"),
        ({"paid_usd": "0.001"}, "paid_usd_cents"),
        ({"funding": "gift"}, "funding"),
        ({"expires": "31.1.2099"}, "expires"),
        ({"expires": "2020-01-01"}, "expires_at"),
        ({"priority": "-1"}, "priority"),
        ({"reason": " "}, "reason"),
        ({"once": "x"}, "once"),
    ],
)
def test_what_is_wrong_is_said_with_its_field(
    api: Api, admin: Browser, changes: dict[str, str], field: str
) -> None:
    answer = make(admin, **changes)
    assert (answer.status_code, field in answer.text) == (422, True)
    assert grants(api) == []


def test_the_balance_says_how_fast_it_is_used_and_when_it_runs_out(api: Api, admin: Browser) -> None:
    day = datetime.now(UTC) - timedelta(days=3)
    for number in range(3):
        events = stream(f"past-{number}")
        for place, each in enumerate(events):
            each["time"] = (day + timedelta(seconds=place)).isoformat()
            each["subject"] = "globex"
        bill(api, events)
    assert make(admin, usd="0.01", customer_id="globex").status_code == 303
    page = admin.get("credits", customer_id="globex").text
    # Three streams of 0.4985 cents in 14 days, and a cent.
    out = datetime.now(UTC) + timedelta(days=9)
    assert f"{out:%Y-%m-%d}" in page
    assert "average of the last 14 days" in page


def test_a_grant_shows_its_entries_and_is_refunded_and_voided(api: Api, admin: Browser) -> None:
    make(admin)
    (grant,) = grants(api)
    bill(api, stream("t"))
    page = admin.get("grant", grant_id=grant["grant_id"]).text
    assert "stream_id=t" in page
    form = {**hidden_fields(page), "usd": "60", "reason": "half"}
    answers = [admin.http.post("/dashboard/grant/refund", data=form) for _ in range(2)]
    assert "pay back $50.00" in admin.http.get(answers[1].headers["location"]).text
    assert grants(api)[0]["balance_usd_cents"] == "5999.5015"
    void = {**hidden_fields(page), "reason": "ended"}
    assert admin.http.post("/dashboard/grant/void", data={**void, "confirm": "gr_x"}).status_code == 422
    answer = admin.http.post("/dashboard/grant/void", data={**void, "confirm": grant["grant_id"]})
    assert "voided" in admin.http.get(answer.headers["location"]).text
    assert grants(api)[0]["state"] == "voided"


def test_all_grants_are_listed_with_what_is_deferred(admin: Browser) -> None:
    make(admin)
    page = admin.get("credits").text
    assert "$100.00" in page
    assert "Deferred" in page
    (row,) = admin.get("credits", csv="grants").text.splitlines()[1:]
    assert Decimal(row.split(",")[2]) == 120


def test_a_customer_sees_its_own_balance_and_cannot_change_it(api: Api, admin: Browser) -> None:
    make(admin)
    (grant,) = grants(api)
    customer = browse(api, Role.READ, customer_id="acme")
    assert "Prepaid credit" in customer.get("").text
    page = customer.get("credits").text
    assert "$120.00" in page
    assert "Make a grant" not in page
    assert "Void" not in customer.get("grant", grant_id=grant["grant_id"]).text
    form = {**hidden_fields(page), "token": customer.token(), "reason": "x", "grant_id": grant["grant_id"]}
    assert customer.http.post("/dashboard/grant/void", data=form).status_code in (403, 404)
    other = browse(api, Role.READ, customer_id="globex")
    assert other.http.get("/dashboard/grant", params={"grant_id": grant["grant_id"]}).status_code == 404
    assert other.http.get("/dashboard/credits", params={"customer_id": "acme"}).status_code == 404


def test_the_page_of_a_stream_says_which_grant_paid_for_it_and_what_is_left(api: Api, admin: Browser) -> None:
    assert "Paid by prepaid credit" not in admin.get("stream", customer_id="acme", stream_id="s").text
    make(admin, usd="0.01", paid_usd="0", funding="none")
    (grant,) = grants(api)
    for stream_id in ("t", "u"):
        bill(api, stream(stream_id))
    for path in ("stream", "stream/sheet"):
        page = admin.get(path, customer_id="acme", stream_id="t").text
        part = page[page.index("Paid by prepaid credit") :]
        assert f"/dashboard/grant?grant_id={grant['grant_id']}" in part
        exactly = re.findall(r'title="([^"]+) exactly"', part)
        assert exactly == ["$0.004985", "$0.005015", "$0.00003", "$0.004985"]
        assert "$0.00 of the cost is to be invoiced." in part
    bill(api, stream("v"))
    page = admin.get("stream", customer_id="acme", stream_id="v").text
    assert "$0.004955 of the cost is to be invoiced." in page
    (row,) = rows_of(admin.get("stream", customer_id="acme", stream_id="v", csv="draws").text)
    assert (row["paid_usd"], row["then_usd"], row["grant_id"]) == ("0.00003", "0", grant["grant_id"])

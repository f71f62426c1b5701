"""A credit is booked on the customer's page: first what it does is shown, then it is booked, once."""

import re
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from metering.access.scopes import Role
from tests.builders.posted import stream
from tests.dashboard.browsing import Browser, browse
from tests.running_api import Api, bill

HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


@pytest.fixture
def admin(api: Api) -> Browser:
    assert bill(api, stream("s"))["cost_usd_cents"] == "0.4985"
    return browse(api)


def preview(admin: Browser, **changes: str) -> httpx2.Response:
    fields = {"customer_id": "acme", "kind": "credit", "usd": "12.50", "reason": "an outage", **changes}
    return admin.http.get("/dashboard/adjust", params=fields)


def book(admin: Browser, page: str) -> httpx2.Response:
    return admin.http.post("/dashboard/adjust/book", data=dict(HIDDEN.findall(page)))


def booked(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.client.get("/v1/adjustments").json()["data"]
    return found


def test_a_credit_is_shown_with_what_it_does_and_then_booked(api: Api, admin: Browser) -> None:
    page = preview(admin)
    assert page.status_code == 200
    assert "-$12.50" in page.text
    assert booked(api) == []
    answer = book(admin, page.text)
    assert answer.status_code == 303
    (row,) = booked(api)
    assert (row["reason"], row["note"], Decimal(row["usd_cents"])) == ("credit", "an outage", Decimal(-1250))
    shown = admin.http.get(answer.headers["location"].partition("#")[0]).text
    assert f"Adjustment <code>{row['adjustment_id']}</code> booked" in shown
    assert row["booked_by"] in shown


def test_the_form_sent_twice_books_once(api: Api, admin: Browser) -> None:
    page = preview(admin).text
    assert book(admin, page).status_code == book(admin, page).status_code == 303
    assert len(booked(api)) == 1
    assert book(admin, preview(admin).text).status_code == 303
    assert len(booked(api)) == 2


def test_a_stream_is_corrected_with_its_cost_before_and_after(api: Api, admin: Browser) -> None:
    page = preview(admin, kind="correction", usd="-0.004985", stream_id="s").text
    assert "$0.004985 → $0.00" in page
    assert book(admin, page).status_code == 303
    assert api.client.get("/v1/streams/acme/s").json()["cost_usd_cents"] == "0"


@pytest.mark.parametrize(
    ("usd", "cents"), [("$1,000", "-100000"), ("0.000000000001", "-0.0000000001"), (" -3 ", "-300")]
)
def test_amounts_are_read_as_people_write_them(api: Api, admin: Browser, usd: str, cents: str) -> None:
    assert book(admin, preview(admin, usd=usd).text).status_code == 303
    assert Decimal(booked(api)[0]["usd_cents"]) == Decimal(cents)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"usd": "0"}, "usd: expected an amount in dollars"),
        ({"usd": "1e3"}, "usd: expected an amount in dollars"),
        ({"usd": "NaN"}, "usd: expected"),
        ({"usd": "1.0000000000001"}, "at most 12 decimal places"),
        ({"usd": "99999999999"}, "usd: expected"),
        ({"usd": "٣"}, "usd: expected"),
        ({"usd": ""}, "usd: expected"),
        ({"kind": "gift"}, "kind: one of credit, correction"),
        ({"reason": " "}, "reason: required"),
        ({"reason": "x" * 501}, "reason: at most 500"),
        ({"stream_id": "none"}, "stream_id: the customer has no charge"),
    ],
)
def test_what_is_wrong_is_said_with_the_field(admin: Browser, changes: dict[str, str], says: str) -> None:
    answer = preview(admin, **changes)
    assert answer.status_code == 422
    assert says in answer.text.replace("&#39;", "'")


def test_an_unknown_customer_is_not_found(admin: Browser) -> None:
    assert preview(admin, customer_id="nobody").status_code == 404


def test_only_an_admin_sees_and_sends_the_form(api: Api, admin: Browser) -> None:
    reader = browse(api, Role.READ)
    assert 'action="/dashboard/adjust"' in admin.get("customer", customer_id="acme").text
    assert 'action="/dashboard/adjust"' not in reader.get("customer", customer_id="acme").text
    assert preview(reader).status_code == 403
    fields = {**dict(HIDDEN.findall(preview(admin).text)), "token": reader.token()}
    assert reader.http.post("/dashboard/adjust/book", data=fields).status_code == 403
    assert booked(api) == []

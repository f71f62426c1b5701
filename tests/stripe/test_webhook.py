"""Stripe's webhooks: believed with their signature only, kept once, and taken as a hint to look."""

import json
import time
from collections.abc import Iterator

import httpx2
import pytest

from metering.lab.stripe_local.webhooks import sign
from tests.builders import Months
from tests.database import Database
from tests.running_api import signed_in

SECRET = "whsec_tests"


@pytest.fixture
def api(rated_database: Database) -> Iterator[httpx2.Client]:
    """An API that shares the months' database."""
    with rated_database.service(stripe_webhook_secret=SECRET) as service, signed_in(service) as running:
        yield running.client


def event(about: str, *, number: int = 1, kind: str = "invoice.paid") -> bytes:
    document = {
        "id": f"evt_{number}",
        "object": "event",
        "type": kind,
        "created": int(time.time()),
        "data": {"object": {"id": about, "object": "invoice"}},
    }
    return json.dumps(document).encode()


def post(api: httpx2.Client, body: bytes, *, secret: str = SECRET) -> httpx2.Response:
    return api.post("/v1/stripe/webhook", content=body, headers={"stripe-signature": sign(body, secret)})


def test_a_webhook_makes_us_read_the_invoice_again_whatever_it_says(months: Months, api: httpx2.Client) -> None:
    months.month("acme")
    months.push_all()
    (invoice,) = months.stripe.client.v1.invoices.list().data
    answer = post(api, event(invoice.id, kind="invoice.voided"))
    assert (answer.status_code, answer.json()) == (200, {"received": True, "new": True})
    months.push_all()
    assert months.rows("SELECT state FROM invoice_pushes") == [("final",)]  # it was not voided
    months.stripe.client.v1.invoices.pay(invoice.id)
    assert post(api, event(invoice.id, number=2)).json()["new"]
    months.push_all()
    assert months.rows("SELECT state FROM invoice_pushes") == [("paid",)]


def test_a_webhook_that_comes_twice_is_kept_once(months: Months, api: httpx2.Client) -> None:
    body = event("in_unknown")
    assert [post(api, body).json()["new"] for _ in range(3)] == [True, False, False]
    assert months.rows("SELECT count(*) FROM stripe_events") == [(1,)]


ODD_EVENTS = {
    "NUL in the id": {"id": "evt_\0"},
    "half a surrogate": {"id": "evt_\ud800"},
    "a long id": {"id": "evt_" + "1" * 300},
    "an id that is a number": {"id": 7},
    "NUL in the type": {"type": "invoice.\0"},
    "a time beyond the calendar": {"created": 10**20},
    "a time with an exponent": {"created": 1e308},
    "a time before Stripe": {"created": 0},
    "a time that is true": {"created": True},
    "NUL in the object's id": {"data": {"object": {"id": "in_\0"}}},
    "no object": {"data": {"object": [1]}},
    "an object without an id": {"data": {"object": {"object": "credit_note", "invoice": {"id": 5}}}},
}


@pytest.mark.parametrize("change", ODD_EVENTS.values(), ids=ODD_EVENTS)
def test_a_signed_event_that_stripe_could_not_have_sent_is_refused(
    months: Months, api: httpx2.Client, change: dict[str, object]
) -> None:
    body = json.dumps({**json.loads(event("in_x")), **change}).encode()
    assert post(api, body).status_code == 400
    assert months.rows("SELECT count(*) FROM stripe_events") == [(0,)]


def test_a_signed_event_that_is_nested_too_deeply_is_refused(api: httpx2.Client) -> None:
    assert post(api, b"[" * 100_000).status_code == 400
    deep = b'{"id":"evt_1","data":' + b'{"object":' * 50_000
    assert post(api, deep + b"1" + b"}" * 50_001).status_code == 400


@pytest.mark.parametrize("change", ["secret", "body", "unsigned", "old", "future", "no event"])
def test_what_is_not_signed_with_our_secret_is_refused(months: Months, api: httpx2.Client, change: str) -> None:
    body = event("in_x")
    headers = {"stripe-signature": sign(body, "whsec_other" if change == "secret" else SECRET)}
    if change == "body":
        body = body.replace(b"in_x", b"in_y")
    elif change == "unsigned":
        headers = {}
    elif change == "old":
        headers = {"stripe-signature": sign(body, SECRET, at=int(time.time()) - 301)}
    elif change == "future":
        headers = {"stripe-signature": sign(body, SECRET, at=int(time.time()) + 400)}
    elif change == "no event":
        body = b"[]"
        headers = {"stripe-signature": sign(body, SECRET)}
    answer = api.post("/v1/stripe/webhook", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["type"] == "/problems/invalid-webhook"
    assert months.rows("SELECT count(*) FROM stripe_events") == [(0,)]

"""Destinations of alerts by forms: a secret shown once, a test with its result, and what was missed sent again."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from standardwebhooks.webhooks import Webhook

from metering.access.scopes import Role
from metering.alerts.alerts import AlertKind
from metering.alerts.evaluate_alerts import evaluate_alerts
from metering.alerts.send_webhooks import send_due
from metering.core.clock import utc_now
from metering.server.outgoing import build_webhook_sender
from tests.alerts.receivers import Receiver, receiving
from tests.builders.posted import stream
from tests.dashboard.browsing import Browser, browse
from tests.database import Database
from tests.running_api import Api, signed_in

SECRET = re.compile(r'<code class="secret">(whsec_[^<]+)</code>')


@pytest.fixture
def api(rated_database: Database) -> Iterator[Api]:
    """An API that may post to loopback addresses."""
    with rated_database.service(webhooks_allow_private=True) as service, signed_in(service) as running:
        yield running


@pytest.fixture
def admin(api: Api) -> Browser:
    return browse(api)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def send(browser: Browser, what: str, **fields: str) -> httpx2.Response:
    return browser.http.post(f"/dashboard/webhook/{what}", data={"token": browser.token(), **fields})


def create(browser: Browser, url: str, **fields: str) -> tuple[str, str]:
    """The id of a new endpoint, and its secret."""
    answer = send(browser, "create", url=url, description="finance", **fields)
    assert answer.status_code == 200, answer.text
    secret, endpoint_id = SECRET.search(answer.text), re.search(r"whe_\w+", answer.text)
    assert secret is not None
    assert endpoint_id is not None
    return endpoint_id[0], secret[1]


def stored(api: Api, endpoint_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = api.client.get(f"/v1/webhook-endpoints/{endpoint_id}").json()
    return answer


def test_a_secret_is_shown_once_and_signs_the_test_whose_result_is_shown(
    api: Api, admin: Browser, receiver: Receiver
) -> None:
    endpoint_id, secret = create(admin, receiver.url, **{"type-alert.spend": "yes"})
    assert stored(api, endpoint_id)["types"] == ["alert.spend"]
    assert secret not in admin.get("webhook", endpoint_id=endpoint_id).text
    done = send(admin, "test", endpoint_id=endpoint_id)
    assert done.status_code == 303
    page = admin.http.get(done.headers["location"]).text
    assert 'data-state="delivered"' in page
    assert "answered with HTTP 204" in page
    (received,) = receiver.received
    Webhook(secret).verify(received.body, dict(received.headers))
    receiver.answer(500)
    failed = send(admin, "test", endpoint_id=endpoint_id)
    assert "answered with HTTP 500" in admin.http.get(failed.headers["location"]).text


def test_a_rotated_secret_overlaps_with_the_old_one(api: Api, admin: Browser, receiver: Receiver) -> None:
    endpoint_id, old = create(admin, receiver.url)
    answer = send(admin, "rotate", endpoint_id=endpoint_id, overlap_hours="2")
    found = SECRET.search(answer.text)
    assert found is not None
    assert found[1] != old
    assert "The old secret signs as well until" in answer.text
    send(admin, "test", endpoint_id=endpoint_id)
    for secret in (old, found[1]):
        Webhook(secret).verify(receiver.received[0].body, dict(receiver.received[0].headers))
    assert send(admin, "rotate", endpoint_id=endpoint_id, overlap_hours="169").status_code == 422
    kinds = {"kind": "webhook_endpoint"}
    rows = api.client.get("/v1/audit-log", params=kinds).json()["data"]
    assert [row["action"] for row in rows] == ["rotate-secret", "create"]
    assert old not in str(rows)


@pytest.mark.parametrize(
    ("typed", "says"),
    [("", "expected"), ("ftp://x", "expected https"), ("https://u:p@example.com", "expected no user")],
)
def test_an_error_is_beside_the_url_and_what_was_typed_stays(
    api: Api, admin: Browser, typed: str, says: str
) -> None:
    answer = send(admin, "create", url=typed, description="finance", **{"type-alert.drift": "yes"})
    assert answer.status_code == 422
    beside = re.search(r'id="url-error" role="alert">([^<]*)<', answer.text)
    assert beside is not None
    assert says in beside[1]
    assert f'value="{typed}"' in answer.text
    assert 'value="finance"' in answer.text
    assert re.search(r'name="type-alert.drift" value="yes" checked', answer.text)
    assert api.client.get("/v1/webhook-endpoints").json()["data"] == []


def test_a_destination_is_changed_paused_resumed_and_deleted(api: Api, admin: Browser, receiver: Receiver) -> None:
    endpoint_id, _ = create(admin, receiver.url, **{"type-alert.spend": "yes"})
    changed = {"url": f"{receiver.url}/other", "description": "on call"}
    assert send(admin, "change", endpoint_id=endpoint_id, **changed).status_code == 303
    now = stored(api, endpoint_id)
    assert (now["url"], now["description"], now["types"]) == (changed["url"], "on call", [])
    assert send(admin, "pause", endpoint_id=endpoint_id, enabled="no").status_code == 303
    assert not stored(api, endpoint_id)["enabled"]
    assert send(admin, "pause", endpoint_id=endpoint_id, enabled="yes").status_code == 303
    assert stored(api, endpoint_id)["enabled"]
    assert send(admin, "delete", endpoint_id=endpoint_id).status_code == 422
    assert send(admin, "delete", endpoint_id=endpoint_id, confirm="yes").status_code == 303
    assert admin.http.get(f"/dashboard/webhook?endpoint_id={endpoint_id}").status_code == 404
    assert send(admin, "test", endpoint_id=endpoint_id).status_code == 404


def test_what_a_paused_destination_missed_is_replayed(api: Api, admin: Browser, receiver: Receiver) -> None:
    endpoint_id, _ = create(admin, receiver.url)
    now = utc_now()
    api.post(stream("s", time=now.isoformat()))
    api.finalize()
    alert = {"name": "Any", "kind": "spend", "scope": "customer", "customer_id": "acme", "thresholds": ["1"]}
    assert api.client.post("/v1/alerts", json={**alert, "budget_usd_cents": "1"}).status_code == 201
    evaluate_alerts(engine=api.service.engine, kind=AlertKind.SPEND, every=timedelta(minutes=1), now=utc_now())
    send(admin, "pause", endpoint_id=endpoint_id, enabled="no")
    sender = build_webhook_sender(api.service)
    send_due(sender=sender, threads=4, each=4)
    assert receiver.received == []
    refused = send(admin, "replay", endpoint_id=endpoint_id, since=f"{now:%Y-%m-%d}")
    assert (refused.status_code, "enable it first" in refused.text) == (422, True)
    send(admin, "pause", endpoint_id=endpoint_id, enabled="yes")
    page = admin.get("webhook", endpoint_id=endpoint_id).text
    assert "alert.spend (skipped)" in page
    since = f"{now - timedelta(days=1):%Y-%m-%d}"
    done = send(admin, "replay", endpoint_id=endpoint_id, since=since)
    assert "1 message will be sent again" in re.sub(r"\s+", " ", admin.http.get(done.headers["location"]).text)
    send_due(sender=sender, threads=4, each=4)
    assert len(receiver.received) == 1
    missed = re.search(r'<option value="(whd_\w+)">', page)
    assert missed is not None
    assert send(admin, "replay", endpoint_id=endpoint_id, delivery_id=missed[1]).status_code == 303
    send_due(sender=sender, threads=4, each=4)
    assert receiver.message_ids()[0] == receiver.message_ids()[1]


def test_only_those_who_may_see_destinations_do(api: Api, admin: Browser, receiver: Receiver) -> None:
    endpoint_id, _ = create(admin, receiver.url)
    reader = browse(api, Role.READ)
    assert reader.http.get(f"/dashboard/webhook?endpoint_id={endpoint_id}").status_code == 403
    assert reader.http.get("/dashboard/webhook/new").status_code == 403
    assert send(reader, "test", endpoint_id=endpoint_id).status_code == 403
    assert receiver.received == []

"""Alerts and webhooks over HTTP: what an admin can do, what a reader sees, and what nobody is told."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from metering.access.scopes import Role
from metering.alerts.alerts import AlertKind
from metering.alerts.manage_endpoints import MAX_ENDPOINTS
from metering.server.embedded.data_dir import Services
from tests.alerts.receivers import Receiver
from tests.alerts.watched import Watched
from tests.builders.budgets import Purse
from tests.credits.scenes import give
from tests.database import Database, Template, clone
from tests.metrics import scrape_work
from tests.running_api import Api, signed_in

SPEND = {
    "name": "budget",
    "kind": "spend",
    "scope": "customer",
    "customer_id": "acme",
    "thresholds": ["50", "80.5"],
}
NOW = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)


@pytest.fixture
def api(rated_database: Database) -> Iterator[Api]:
    """An API that may send webhooks to private addresses."""
    with rated_database.service(webhooks_allow_private=True) as service, signed_in(service) as running:
        yield running


@pytest.fixture(scope="module")
def strict_api(services: Services, rated_template: Template) -> Iterator[Api]:
    """An API as it is by default, for what is refused."""
    with clone(services, rated_template) as database, database.service() as service, signed_in(service) as running:
        yield running


def made(answer: httpx2.Response) -> Any:
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_an_alert_is_made_read_changed_and_ended(api: Api, watched: Watched) -> None:
    watched.customer("acme")
    alert = made(api.client.post("/v1/alerts", json={**SPEND, "budget_usd_cents": "1000.5"}))
    assert {**alert, "alert_id": "", "created_by": "", "created_at": "", "changed_at": ""} == {
        "alert_id": "",
        "version": 1,
        "name": "budget",
        "kind": "spend",
        "scope": "customer",
        "customer_id": "acme",
        "thresholds": ["50", "80.5"],
        "unit": "percent_of_budget",
        "budget_usd_cents": "1000.5",
        "floor_usd_cents": None,
        "trailing_days": None,
        "enabled": True,
        "created_by": "",
        "created_at": "",
        "changed_at": "",
    }
    path = f"/v1/alerts/{alert['alert_id']}"
    assert api.client.get(path).json() == alert
    renamed = api.client.patch(path, json={"name": "better"}).json()
    assert (renamed["name"], renamed["version"], renamed["thresholds"]) == ("better", 1, ["50", "80.5"])
    changed = api.client.patch(path, json={"budget_usd_cents": "2000", "enabled": False}).json()
    assert (changed["budget_usd_cents"], changed["version"], changed["enabled"]) == ("2000", 2, False)
    assert [each["alert_id"] for each in api.client.get("/v1/alerts").json()["data"]] == [alert["alert_id"]]
    assert api.client.delete(path).status_code == 204
    assert api.client.get(path).status_code == api.client.delete(path).status_code == 404
    assert api.client.get("/v1/alerts").json()["data"] == []


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ({}, 422, "budget_usd_cents: required for kind spend"),
        ({"budget_usd_cents": "0"}, 422, "budget_usd_cents: expected cents above 0"),
        ({"budget_usd_cents": "NaN"}, 422, "budget_usd_cents"),
        ({"budget_usd_cents": "1", "thresholds": []}, 422, "thresholds: expected 1 to 10 values"),
        ({"budget_usd_cents": "1", "thresholds": ["1", "1.0"]}, 422, "thresholds: expected each value once"),
        ({"budget_usd_cents": "1", "customer_id": "nobody"}, 404, "there is no customer 'nobody'"),
        ({"budget_usd_cents": "1", "scope": "deployment"}, 422, "customer_id: required for scope customer"),
        ({"budget_usd_cents": "1", "kind": "mood"}, 422, "kind"),
        ({"budget_usd_cents": "1", "name": "a\x00b"}, 422, "name"),
        ({"kind": "budget", "budget_usd_cents": "1"}, 422, "budget_usd_cents: not allowed for kind budget"),
        ({"kind": "budget", "thresholds": ["0"]}, 422, "thresholds: expected percent_of_limit from 0.01"),
        (
            {"kind": "balance_below", "scope": "deployment", "customer_id": None},
            422,
            "scope: expected customer or each_customer for kind balance_below, got deployment",
        ),
        ({"kind": "balance_below", "thresholds": ["-1"]}, 422, "thresholds: expected usd_cents from 0"),
    ],
)
def test_a_mistake_in_an_alert_is_a_problem_that_names_the_field(
    strict_api: Api, given: dict[str, Any], status: int, says: str
) -> None:
    strict_api.client.put("/v1/customers/acme", json={})
    answer = strict_api.client.post("/v1/alerts", json={**SPEND, **given})
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text


def test_a_key_that_is_bound_to_a_customer_sees_its_own_alerts_and_no_endpoint(api: Api, watched: Watched) -> None:
    for customer_id in ("acme", "other"):
        watched.use(customer_id, Decimal(100), NOW)
        watched.alert(AlertKind.SPEND, 50, customer_id=customer_id, budget_usd_cents=100)
    watched.alert(AlertKind.SPEND, 50, budget_usd_cents=100, name="for us only")
    watched.evaluate(AlertKind.SPEND)
    (secret,) = (watched.endpoint()[1],)
    with api.client_with(Role.READ, "acme") as bound, api.client_with(Role.READ) as reader:
        assert {each["customer_id"] for each in bound.get("/v1/alerts").json()["data"]} == {"acme"}
        (seen,) = bound.get("/v1/alert-occurrences").json()["data"]
        assert (seen["customer_id"], seen["data"]["name"]) == ("acme", "spend")
        assert bound.get("/v1/alerts?customer_id=other").status_code == 403
        assert bound.get("/v1/alert-occurrences?customer_id=other").status_code == 403
        all_alerts = reader.get("/v1/alerts").json()["data"]
        assert len(all_alerts) == 3
        assert len(reader.get("/v1/alert-occurrences").json()["data"]) == 4
        for alert in all_alerts:
            status = bound.get(f"/v1/alerts/{alert['alert_id']}").status_code
            assert status == (200 if alert["customer_id"] == "acme" else 404)
        for key in (bound, reader):
            for path in ("/v1/webhook-endpoints", "/v1/webhook-deliveries"):
                answer = key.get(path)
                assert (answer.status_code, "hooks.example.com" in answer.text) == (403, False)
            assert key.post("/v1/alerts", json=SPEND).status_code == 403
            assert key.delete(f"/v1/alerts/{all_alerts[0]['alert_id']}").status_code == 403
    pages = [api.client.get("/v1/webhook-endpoints").text, api.client.get("/v1/webhook-deliveries").text]
    assert not any(secret in page or "whsec_" in page for page in pages)


@pytest.mark.parametrize(
    ("kind", "scope", "unit"),
    [
        ("budget", "deployment", "percent_of_limit"),
        ("budget", "each_customer", "percent_of_limit"),
        ("balance_below", "each_customer", "usd_cents"),
    ],
)
def test_an_alert_about_money_before_the_stream_is_made_read_and_changed(
    api: Api, kind: str, scope: str, unit: str
) -> None:
    given = {"name": "Money", "kind": kind, "scope": scope, "thresholds": ["80", "99.5"]}
    alert = made(api.client.post("/v1/alerts", json=given))
    assert {name: alert[name] for name in (*given, "unit", "budget_usd_cents")} == {
        **given,
        "unit": unit,
        "budget_usd_cents": None,
    }
    path = f"/v1/alerts/{alert['alert_id']}"
    changed = api.client.patch(path, json={"thresholds": ["90"]}).json()
    assert (changed["thresholds"], changed["version"]) == (["90"], 2)
    assert api.client.get("/v1/alerts", params={"kind": kind}).json()["data"] == [changed]


def test_occurrences_of_budgets_and_balances_are_listed_with_their_figures(api: Api, watched: Watched) -> None:
    watched.customer("acme")
    give(watched, "10", at=NOW)
    purse = Purse(watched.service)
    purse.set("acme-monthly", "20")
    for kind, threshold in (("budget", "50"), ("balance_below", "5")):
        terms = {"name": kind, "kind": kind, "scope": "customer", "customer_id": "acme", "thresholds": [threshold]}
        made(api.client.post("/v1/alerts", json=terms))
    watched.use("acme", Decimal(10), NOW)
    watched.evaluate(AlertKind.BUDGET)
    watched.evaluate(AlertKind.BALANCE_BELOW)
    (of_budget,) = api.client.get("/v1/alert-occurrences", params={"kind": "budget"}).json()["data"]
    assert (of_budget["window"], of_budget["threshold"]) == ("acme-monthly/2026-11-01T00:00Z/20", "50")
    assert of_budget["data"]["headroom_usd_cents"] == "10"
    (of_balance,) = api.client.get("/v1/alert-occurrences", params={"kind": "balance_below"}).json()["data"]
    assert (of_balance["window"], of_balance["data"]["available_usd_cents"]) == ("grants/1", "0")
    with api.client_with(Role.READ, "acme") as bound, api.client_with(Role.READ, "other") as other:
        assert len(bound.get("/v1/alert-occurrences").json()["data"]) == 2
        assert other.get("/v1/alert-occurrences").json()["data"] == []


def test_an_endpoint_takes_messages_that_no_alert_makes(api: Api) -> None:
    types = ["budget.exhausted", "hold.refused"]
    given = {"url": "https://hooks.example.com/", "types": types}
    assert made(api.client.post("/v1/webhook-endpoints", json=given))["types"] == types
    assert (
        "budget.exhausted, hold.refused, or"
        in (api.client.post("/v1/webhook-endpoints", json={**given, "types": ["hold.granted"]}).json()["detail"])
    )


def test_an_endpoint_is_created_tested_rotated_and_deleted_and_shows_its_secret_once(
    api: Api, receiver: Receiver
) -> None:
    given = {"url": receiver.url, "description": "finance", "types": ["alert.drift", "alert.spend"]}
    endpoint = made(api.client.post("/v1/webhook-endpoints", json=given))
    secret = endpoint.pop("secret")
    assert secret.startswith("whsec_")
    path = f"/v1/webhook-endpoints/{endpoint['endpoint_id']}"
    assert api.client.get(path).json() == endpoint
    assert endpoint["types"] == ["alert.drift", "alert.spend"]
    tried = api.client.post(f"{path}/test").json()
    assert (tried["state"], tried["response_status"], tried["type"]) == ("delivered", 204, "webhook.test")
    rotated = api.client.post(f"{path}/rotate-secret", json={"overlap_hours": 1}).json()
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != secret
    assert api.client.post(f"{path}/rotate-secret").status_code == 200
    assert api.client.post(f"{path}/rotate-secret", json={"overlap_hours": 169}).status_code == 422
    changed = api.client.patch(path, json={"types": [], "enabled": False}).json()
    assert (changed["types"], changed["enabled"]) == ([], False)
    assert changed["disabled_reason"].startswith("disabled by key ")
    assert api.client.patch(path, json={"enabled": True}).json()["enabled"] is True
    assert api.client.delete(path).status_code == 204
    for call in (api.client.get(path), api.client.post(f"{path}/test"), api.client.post(f"{path}/rotate-secret")):
        assert (call.status_code, call.headers["content-type"]) == (404, "application/problem+json")


def test_an_endpoint_that_may_not_be_asked_or_is_one_too_many_is_refused(strict_api: Api) -> None:
    def post(**given: Any) -> httpx2.Response:
        return strict_api.client.post("/v1/webhook-endpoints", json={"url": "https://hooks.example.com/", **given})

    for url in ("http://hooks.example.com/", "https://127.0.0.1/", "https://[::1]/", "https://2130706433/", "x"):
        answer = post(url=url)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-webhook-url"), url
    assert "got 'alert.mood'" in post(types=["alert.mood"]).json()["detail"]
    for _ in range(MAX_ENDPOINTS):
        made(post())
    assert (post().status_code, post().json()["type"]) == (409, "/problems/too-many-webhook-endpoints")


def test_the_log_is_read_page_by_page_filtered_and_replayed(
    api: Api, watched: Watched, receiver: Receiver
) -> None:
    endpoint_id = made(api.client.post("/v1/webhook-endpoints", json={"url": receiver.url}))["endpoint_id"]
    for number in range(5):
        watched.use(f"c{number}", Decimal(10), NOW)
    watched.alert(AlertKind.SPEND, 100, budget_usd_cents=10)
    watched.evaluate(AlertKind.SPEND)

    def pages(path: str, name: str) -> list[str]:
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = api.client.get(path, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
            found += [each[name] for each in page["data"]]
            cursor = page["next_cursor"]
        return found

    deliveries = pages("/v1/webhook-deliveries", "delivery_id")
    assert len(deliveries) == len(set(deliveries)) == 5
    assert len(set(pages("/v1/alert-occurrences", "occurrence_id"))) == 5
    assert len(pages("/v1/alerts", "alert_id")) == 1
    (one,) = api.client.get("/v1/webhook-deliveries?customer_id=c3").json()["data"]
    assert (one["state"], one["endpoint_id"], one["attempts"]) == ("pending", endpoint_id, 0)
    assert api.client.get(f"/v1/webhook-deliveries?message_id={one['message_id']}").json()["data"] == [one]
    assert api.client.get("/v1/webhook-deliveries?state=failed").json()["data"] == []
    watched.execute("UPDATE webhook_deliveries SET state = 'failed', due_at = NULL, attempts = 8")
    path = f"/v1/webhook-deliveries/{one['delivery_id']}"
    again = api.client.post(f"{path}/replay")
    assert (again.status_code, again.json()["replay"], again.json()["state"]) == (202, 1, "pending")
    assert again.json()["message_id"] == one["message_id"]
    assert api.client.get(path).json()["state"] == "failed"
    assert api.client.post("/v1/webhook-deliveries/whd_none/replay").status_code == 404
    api.client.patch(f"/v1/webhook-endpoints/{endpoint_id}", json={"enabled": False})
    watched.execute("UPDATE webhook_deliveries SET state = 'failed', due_at = NULL")
    refused = api.client.post(f"{path}/replay")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/webhook-endpoint-disabled")
    assert api.client.get("/v1/webhook-deliveries?cursor=x").status_code == 422


def test_metrics_show_the_state_of_endpoints_and_the_age_of_the_oldest_delivery(
    api: Api, watched: Watched
) -> None:
    empty = scrape_work(api.service)
    assert (empty("metering_oldest_webhook_seconds"), "metering_alerts_evaluated_seconds" in empty) == (0, False)
    for number in range(4):
        watched.endpoint(f"https://hooks.example.com/{number}")
    watched.use("acme", Decimal(10), NOW)
    watched.alert(AlertKind.SPEND, 100, budget_usd_cents=10)
    for kind in AlertKind:
        watched.evaluate(kind)
    for number, changed in enumerate(
        (
            "failing_since = now()",
            "failing_since = now(), disabled_at = now(), disabled_reason = 'test'",
            "disabled_at = now(), disabled_reason = 'test'",
        )
    ):
        watched.execute(f"UPDATE webhook_endpoints SET {changed} WHERE url LIKE '%/{number}'")
    told = scrape_work(api.service)
    states = {"failing": 1.0, "disabled": 1.0, "off": 1.0, "ok": 1.0}
    assert told.not_zero("metering_webhook_endpoints") == states
    assert told("metering_oldest_webhook_seconds") > 60
    assert told("metering_alerts_evaluated_seconds") > 60

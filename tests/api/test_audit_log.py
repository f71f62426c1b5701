"""The audit log over the API: every change leaves one row: who, from where, before and after, and no secret."""

from typing import Any

import pytest

from metering.access.scopes import Role
from tests.builders.posted import end, start
from tests.running_api import Api, adjust, put

RATE = {"rates": [{"kind": "input", "usd_per_million": "1.5"}]}
ALERT = {"name": "Budget", "kind": "spend", "scope": "customer", "customer_id": "acme", "budget_usd_cents": "900"}


def log(api: Api, **query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = api.client.get("/v1/audit-log", params=query).json()["data"]
    return rows


def _alert(api: Api) -> str:
    answer = api.client.post("/v1/alerts", json={**ALERT, "thresholds": ["80"]})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["alert_id"])


def _endpoint(api: Api) -> tuple[str, str]:
    made = api.client.post("/v1/webhook-endpoints", json={"url": "https://hooks.example.com/m"}).json()
    return made["endpoint_id"], made["secret"]


def _key(api: Api) -> str:
    return str(api.client.post("/v1/keys", json={"name": "portal", "role": "read"}).json()["key_id"])


def _stream(api: Api) -> None:
    api.post([start("odd") | {"data": {**start("odd")["data"], "provider": "mystery"}}, end("odd")])
    api.finalize()


# What is done first, then the action, and what the newest row says of it.
ACTIONS: dict[str, Any] = {
    "a customer": (
        lambda api: put(api, "/v1/customers/acme", name="Acme", time_zone="Europe/Berlin"),
        ("customer", "create", "acme"),
        {"name": "Acme", "stripe_customer_id": None, "time_zone": "Europe/Berlin"},
    ),
    "a rate": (lambda api: put(api, "/v1/rates/house/m", **RATE), ("rate", "set", None), {"rates": ["input 1.5"]}),
    "a cancel policy": (
        lambda api: put(api, "/v1/cancel-policies/house", policy="zero"),
        ("cancel_policy", "set", "house"),
        {"policy": "zero", "version": 1},
    ),
    "a markup": (
        lambda api: put(api, "/v1/markups/acme", percent="20"), ("markup", "set", "acme"), {"percent": "20"}
    ),
    "an upstream price": (
        lambda api: put(api, "/v1/upstream-prices/house", accepted=True),
        ("upstream_price", "set", "house"),
        {"accepted": True},
    ),
    "an adjustment": (
        lambda api: (put(api, "/v1/customers/acme", name="Acme"), adjust(api)),
        ("adjustment", "book", None),
        {"customer_id": "acme", "usd_cents": "-100.5", "reason": "an outage"},
    ),
    "a resolution": (
        lambda api: (
            _stream(api),
            api.client.post(
                "/v1/streams/acme/odd/resolution", json={"action": "write_off", "reason": "a test"}
            ),
        ),
        ("stream", "resolve", "odd"),
        {"action": "write_off", "reason": "a test"},
    ),
    "a new alert": (
        lambda api: (put(api, "/v1/customers/acme", name="Acme"), _alert(api)),
        ("alert", "create", None),
        {"name": "Budget", "thresholds": ["80"], "budget_usd_cents": "900"},
    ),
    "a changed alert": (
        lambda api: (
            put(api, "/v1/customers/acme", name="Acme"),
            api.client.patch(f"/v1/alerts/{_alert(api)}", json={"thresholds": ["90"], "enabled": False}),
        ),
        ("alert", "change", None),
        {"thresholds": ["90"], "enabled": False, "version": 2},
    ),
    "a deleted alert": (
        lambda api: (
            put(api, "/v1/customers/acme", name="Acme"), api.client.delete(f"/v1/alerts/{_alert(api)}")
        ),
        ("alert", "delete", None),
        None,
    ),
    "a new endpoint": (
        _endpoint, ("webhook_endpoint", "create", None), {"url": "https://hooks.example.com/m", "enabled": True}
    ),
    "a changed endpoint": (
        lambda api: api.client.patch(f"/v1/webhook-endpoints/{_endpoint(api)[0]}", json={"enabled": False}),
        ("webhook_endpoint", "change", None),
        {"enabled": False},
    ),
    "a rotated webhook secret": (
        lambda api: api.client.post(f"/v1/webhook-endpoints/{_endpoint(api)[0]}/rotate-secret"),
        ("webhook_endpoint", "rotate-secret", None),
        {},
    ),
    "a deleted endpoint": (
        lambda api: api.client.delete(f"/v1/webhook-endpoints/{_endpoint(api)[0]}"),
        ("webhook_endpoint", "delete", None),
        None,
    ),
    "a new key": (_key, ("key", "create", None), {"name": "portal", "role": "read", "revoked_at": None}),
    "a rotated key": (lambda api: api.client.post(f"/v1/keys/{_key(api)}/rotate"), ("key", "rotate", None), {}),
    "a revoked key": (lambda api: api.client.delete(f"/v1/keys/{_key(api)}"), ("key", "revoke", None), {}),
}  # fmt: skip


@pytest.mark.parametrize("case", ACTIONS)
def test_every_change_says_who_what_and_from_where(api: Api, case: str) -> None:
    act, (kind, action, subject), after = ACTIONS[case]
    act(api)
    row = log(api)[0]
    mine = api.client.headers["authorization"].split("_")[1]
    assert (row["actor"], row["door"], row["address"]) == (f"key {mine}", "api", "127.0.0.1")
    assert row["request_id"].startswith("req_")
    assert (row["kind"], row["action"]) == (kind, action)
    assert subject in (None, row["subject"])
    if after is None:
        assert row["before"]
        assert row["after"] is None
    else:
        assert row["after"].items() >= after.items()


def test_a_change_has_the_values_before_it_and_one_that_changes_nothing_has_no_row(api: Api) -> None:
    put(api, "/v1/customers/acme", name="Acme", stripe_customer_id="cus_1")
    put(api, "/v1/customers/acme", stripe_customer_id="cus_2")
    put(api, "/v1/customers/acme", stripe_customer_id="cus_2")
    newest, first = log(api, kind="customer")
    assert (first["before"], first["after"]["stripe_customer_id"]) == (None, "cus_1")
    assert newest["before"] == first["after"]
    assert newest["after"] == {**first["after"], "stripe_customer_id": "cus_2"}


def test_the_clients_request_id_is_kept_and_a_strange_one_replaced(api: Api) -> None:
    rates = "/v1/rates/house/m"
    for given, kept in (("trace-7", True), ("x" * 129, False)):
        answer = api.client.put(
            rates,
            json={**RATE, "effective_from": f"20{20 + kept}-01-01T00:00:00Z"},
            headers={"x-request-id": given},
        )
        assert answer.status_code == 200
        assert (log(api)[0]["request_id"] == given) is kept


def test_the_log_has_no_secret(api: Api) -> None:
    endpoint, secret = _endpoint(api)
    rotated = api.client.post(f"/v1/webhook-endpoints/{endpoint}/rotate-secret").json()["secret"]
    made = api.client.post("/v1/keys", json={"name": "portal", "role": "read"}).json()
    again = api.client.post(f"/v1/keys/{made['key_id']}/rotate").json()
    text = api.client.get("/v1/audit-log").text
    for each in (secret, rotated, made["key"], again["key"]):
        assert each not in text
        assert each.rpartition("_")[2] not in text


def test_the_log_is_read_in_pages_and_by_filters(api: Api) -> None:
    for number in range(5):
        put(api, f"/v1/customers/c{number}", name=f"Customer {number}")
    _key(api)
    seen: list[int] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        page = api.client.get("/v1/audit-log", params=query).json()
        seen += [row["audit_id"] for row in page["data"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 1
    assert len(seen) == len(set(seen)) == seen[0]
    assert [row["subject"] for row in log(api, kind="customer", subject="c3")] == ["c3"]
    assert log(api, actor="key of nobody") == []
    assert log(api, to="2020-01-01T00:00:00Z") == []


def test_a_reader_does_not_see_the_log(api: Api) -> None:
    with api.client_with(Role.READ) as client:
        assert client.get("/v1/audit-log").status_code == 403

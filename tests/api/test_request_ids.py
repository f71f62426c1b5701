"""Every answer has the id of its request, which is in the log, in problems and on the dashboard's error page."""

import logging

import httpx2
import pytest

from metering.access.scopes import Role
from tests.builders.posted import start
from tests.running_api import Api, http_client

OWN = {"x-request-id": "trace-7"}


def answers(api: Api, headers: dict[str, str]) -> list[httpx2.Response]:
    """One of each way in which an answer is made."""
    stranger = http_client(api.url, headers=headers)
    return [
        api.post([start()], headers=headers),
        api.post([{}], headers=headers),
        api.client.get("/v1/customers", headers=headers),
        api.client.get("/v1/nothing", headers=headers),
        api.client.delete("/v1/events", headers=headers),
        stranger.get("/v1/customers"),
        stranger.get("/livez"),
        stranger.get("/openapi.json"),
        stranger.get("/dashboard/"),
        stranger.get("/dashboard/static/app.css"),
    ]


def test_every_answer_has_the_clients_own_id(shared_api: Api) -> None:
    found = answers(shared_api, OWN)
    assert [answer.headers.get_list("x-request-id") for answer in found] == [["trace-7"]] * len(found)
    problems = [answer for answer in found if answer.headers.get("content-type") == "application/problem+json"]
    assert len(problems) == 4
    assert {answer.json()["request_id"] for answer in problems} == {"trace-7"}


def test_every_answer_has_an_id_of_its_own_otherwise(shared_api: Api) -> None:
    found = answers(shared_api, {"x-request-id": "a b"})
    made = {answer.headers["x-request-id"] for answer in found}
    assert len(made) == len(found)
    assert all(each.startswith("req_") for each in made)


def test_the_audit_log_has_the_id_of_the_answer(api: Api) -> None:
    answer = api.client.put("/v1/customers/acme", json={"name": "A"})
    newest = api.client.get("/v1/audit-log?limit=1").json()["data"][0]
    assert newest["request_id"] == answer.headers["x-request-id"]


def test_an_unexpected_error_is_found_in_the_log_by_its_id(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metering.api.customers.list_customers", lambda *_, **__: 1 / 0)
    with caplog.at_level(logging.ERROR), http_client(api.url, headers=dict(api.client.headers)) as client:
        answer = client.get("/v1/customers", headers=OWN)
    assert (answer.status_code, answer.headers["x-request-id"], answer.json()["request_id"]) == (
        500,
        "trace-7",
        "trace-7",
    )
    assert any(record.__dict__.get("path") == "/v1/customers" for record in caplog.records)


def test_the_dashboards_error_page_shows_the_id(shared_api: Api) -> None:
    with shared_api.client_with(Role.ADMIN) as client:
        key = client.headers["authorization"].removeprefix("Bearer ")
        client.post("/dashboard/sign-in", data={"key": key}, headers={"origin": shared_api.url})
        page = client.get("/dashboard/customers/nobody", headers=OWN)
    assert page.status_code == 404
    assert "<code>trace-7</code>" in page.text

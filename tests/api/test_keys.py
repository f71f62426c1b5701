"""`/v1/keys`: keys are created, bound, rotated and revoked, and no key gives what it does not have."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import psycopg
import pytest

from tests.builders.posted import end, event, start
from tests.database import Database
from tests.running_api import Api
from tests.waiting import eventually


def create(api: Api, **terms: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/keys", json={"name": "test", **terms})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def status(api: Api, key: str, path: str = "/v1/customers") -> int:
    with api.client_of(key) as client:
        return client.get(path).status_code


def listed(api: Api, key_id: str) -> dict[str, Any]:
    (found,) = [each for each in api.client.get("/v1/keys").json()["data"] if each["key_id"] == key_id]
    assert isinstance(found, dict)
    return found


def problem(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]


def test_a_key_is_created_used_and_listed_and_its_secret_is_shown_once(api: Api) -> None:
    made = create(api, role="read", name="portal", customer_id="acme")
    assert made["key"].startswith(f"mk_{made['key_id']}_")
    assert status(api, made["key"]) == 200
    found = listed(api, made["key_id"])
    assert (found["name"], found["role"], found["customer_id"], found["state"]) == (
        "portal",
        "read",
        "acme",
        "active",
    )
    assert "totals:read" in found["scopes"]
    assert "customers:write" not in found["scopes"]
    assert made["key"].split("_")[2] not in api.client.get("/v1/keys").text


def test_a_custom_key_does_what_it_lists_and_no_more(api: Api) -> None:
    made = create(api, role="custom", scopes=["rates:read", "rates:write"])
    with api.client_of(made["key"]) as client:
        assert client.get("/v1/rates").status_code == 200
        rate = {"rates": [{"kind": "input", "usd_per_million": "1"}]}
        assert client.put("/v1/rates/house/m", json=rate).status_code == 200
        refused = client.get("/v1/customers")
        assert problem(refused)[0] == 403
        assert "customers:read (role read or admin)" in problem(refused)[1]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a scope that does not exist": ({"role": "custom", "scopes": ["total:read"]}, "scopes: expected some of"),
    "no scope": ({"role": "custom"}, "scopes: a custom key needs at least one"),
    "scopes beside a role": ({"role": "read", "scopes": ["totals:read"]}, "use role custom"),
    "an admin of one customer": ({"role": "admin", "customer_id": "acme"}, "role admin cannot be bound"),
    "a change for one customer": (
        {"role": "custom", "scopes": ["rates:write"], "customer_id": "acme"},
        "rates:write is not about one customer",
    ),
    "a source of a reader": ({"role": "read", "source": "/gateways/eu-1"}, "source: only a key with role ingest"),
    "an expiry that is over": ({"role": "read", "expires_at": "2020-01-01T00:00:00Z"}, "a time that is ahead"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_key_that_makes_no_sense_is_refused_with_the_field(shared_api: Api, case: str) -> None:
    terms, says = REFUSED[case]
    answer = shared_api.client.post("/v1/keys", json={"name": "test", **terms})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_an_expired_key_is_refused_also_by_a_server_that_remembers_it(api: Api) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    made = create(api, role="read", expires_at=soon.isoformat())
    assert status(api, made["key"]) == 200
    # Well before the five seconds for which a key is remembered.
    assert eventually(lambda: status(api, made["key"]) == 401)
    assert datetime.now(UTC) >= soon
    assert listed(api, made["key_id"])["state"] == "expired"


def test_a_rotated_key_has_both_secrets_for_a_while_and_the_same_id(api: Api, rated_database: Database) -> None:
    made = create(api, role="read")
    answer = api.client.post(f"/v1/keys/{made['key_id']}/rotate", json={"overlap_hours": 1})
    rotated = answer.json()
    assert answer.status_code == 200
    assert rotated["key_id"] == made["key_id"]
    assert rotated["key"] != made["key"]
    assert (status(api, made["key"]), status(api, rotated["key"])) == (200, 200)
    with psycopg.connect(rated_database.url) as connection:
        connection.execute("UPDATE keys SET old_secret_ends_at = now() WHERE key_id = %s", (made["key_id"],))
    assert eventually(lambda: status(api, made["key"]) == 401)
    assert status(api, rotated["key"]) == 200


def test_a_key_that_leaked_is_rotated_without_an_overlap(api: Api) -> None:
    made = create(api, role="read")
    rotated = api.client.post(f"/v1/keys/{made['key_id']}/rotate", json={"overlap_hours": 0}).json()
    assert (status(api, made["key"]), status(api, rotated["key"])) == (401, 200)


def test_a_revoked_key_is_refused_by_running_servers_and_stays_revoked(api: Api) -> None:
    made = create(api, role="read")
    assert status(api, made["key"]) == 200
    assert api.client.delete(f"/v1/keys/{made['key_id']}").status_code == 204
    assert eventually(lambda: status(api, made["key"]) == 401)
    assert api.client.delete(f"/v1/keys/{made['key_id']}").status_code == 204
    assert api.client.post(f"/v1/keys/{made['key_id']}/rotate").json()["type"] == "/problems/key-not-active"
    assert listed(api, made["key_id"])["state"] == "revoked"
    assert api.client.delete("/v1/keys/nobody").status_code == 404


def test_a_key_gives_and_takes_over_no_scope_that_it_does_not_have(api: Api) -> None:
    keeper = create(api, role="custom", scopes=["keys:read", "keys:write", "totals:read"])
    admin = create(api, role="admin")
    with api.client_of(keeper["key"]) as client:
        assert client.post("/v1/keys", json={"name": "x", "role": "custom", "scopes": ["totals:read"]}).is_success
        for terms in ({"role": "admin"}, {"role": "read"}, {"role": "custom", "scopes": ["rates:write"]}):
            assert problem(client.post("/v1/keys", json={"name": "x", **terms}))[0] == 403
        assert problem(client.post(f"/v1/keys/{admin['key_id']}/rotate"))[0] == 403
        assert problem(client.delete(f"/v1/keys/{admin['key_id']}"))[0] == 403
    assert status(api, admin["key"]) == 200


def test_a_bound_gateway_posts_only_events_of_its_customer(api: Api) -> None:
    made = create(api, role="ingest", customer_id="acme")
    foreign = event("stream-start", start("theirs")["data"], subject="globex")
    with api.client_of(made["key"]) as client:
        answer = client.post("/v1/events", json=[start("mine"), foreign, end("mine")])
        assert answer.json()["accepted"] == 2
        (rejected,) = answer.json()["rejected"]
        assert (rejected["index"], rejected["code"]) == (1, "forbidden")
        assert rejected["detail"] == "subject: this key posts only events of customer 'acme'"
        assert client.post("/v1/events", json=[foreign]).json()["type"] == "/problems/invalid-events"
    assert api.client.get("/v1/streams/acme/mine").status_code == 200
    assert api.client.get("/v1/streams/globex/theirs").status_code == 404


def test_a_bound_gateway_posts_only_events_of_its_source(api: Api) -> None:
    made = create(api, role="ingest", source="/gateways/eu-1")
    # The second is broken, so that the third has another place among the valid ones than in the request.
    mine, other = start("mine") | {"source": "/gateways/eu-1"}, start("other")
    with api.client_of(made["key"]) as client:
        answer = client.post("/v1/events", json=[mine, {"type": "nothing"}, other]).json()
    assert answer["accepted"] == 1
    assert [(each["index"], each["code"]) for each in answer["rejected"]] == [
        (1, "unknown-type"),
        (2, "forbidden"),
    ]


def test_limits_of_a_key_are_set_shown_and_taken_back(api: Api) -> None:
    made = create(api, role="ingest")
    assert made["limits"] == {"events_per_second": None, "requests_per_second": None, "concurrent_requests": None}
    path = f"/v1/keys/{made['key_id']}/limits"
    answer = api.client.put(path, json={"events_per_second": 20_000, "concurrent_requests": 3})
    assert answer.json()["limits"]["events_per_second"] == 20_000
    assert listed(api, made["key_id"])["limits"] == answer.json()["limits"]
    assert api.client.put(path, json={}).json()["limits"] == made["limits"]
    (last, first) = api.client.get("/v1/audit-log", params={"kind": "key", "subject": made["key_id"]}).json()[
        "data"
    ][:2]
    assert (first["after"]["events_per_second"], last["after"]["events_per_second"]) == (20_000, None)
    assert api.client.put(path, json=made["limits"]).json()["limits"] == made["limits"]


@pytest.mark.parametrize(
    "given", [{"events_per_second": 0}, {"requests_per_second": "5"}, {"event_per_second": 5}]
)
def test_limits_that_make_no_sense_are_refused_with_the_field(api: Api, given: dict[str, Any]) -> None:
    made = create(api, role="ingest")
    status_code, detail = problem(api.client.put(f"/v1/keys/{made['key_id']}/limits", json=given))
    assert status_code == 422
    assert next(iter(given)) in detail


def test_a_key_does_not_limit_one_that_may_do_more(api: Api) -> None:
    admin = create(api, role="admin")
    weak = create(api, role="custom", scopes=["keys:read", "keys:write"])
    with api.client_of(weak["key"]) as client:
        refused = client.put(f"/v1/keys/{admin['key_id']}/limits", json={"requests_per_second": 1})
    assert refused.status_code == 403
    assert listed(api, admin["key_id"])["limits"]["requests_per_second"] is None

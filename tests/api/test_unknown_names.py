"""What a route does not declare is refused by name, with the name that was probably meant."""

from typing import Any

import pytest

from metering.access.scopes import Role
from tests.builders.posted import start
from tests.running_api import Api

RANGE = "from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z"


def refused(answer: Any) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text
    assert answer.json()["type"] == "/problems/invalid-parameter"
    detail: str = answer.json()["detail"]
    return detail


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        (f"/v1/totals?{RANGE}&customer=acme", "customer: unknown query parameter, did you mean customer_id?"),
        (f"/v1/totals?{RANGE}&groupby=model", "groupby: unknown query parameter, did you mean group_by?"),
        ("/v1/totals?form=x", "form: unknown query parameter, did you mean from?"),
        ("/v1/charges?form=x", "form: unknown query parameter, did you mean from?"),
        ("/v1/charges?form=x&modle=y", "form: unknown query parameter, did you mean from?; modle: unknown"),
        ("/v1/charges?zzz=1", "zzz: unknown query parameter"),
        ("/v1/customers?customer_id=acme", "customer_id: unknown query parameter"),
        ("/v1/streams/acme/s?limit=1", "limit: unknown query parameter"),
        ("/v1/streams/acme/s/events?curser=x", "curser: unknown query parameter, did you mean cursor?"),
        ("/v1/streams/acme/s/receipt?format=pdf", "format: unknown query parameter"),
        ("/v1/exports/charges.csv?periode=2026-11", "periode: unknown query parameter, did you mean period?"),
        ("/v1/charges?limit=1&limit=2", "limit: given more than once"),
        ("/v1/charges?customer_id=a&customer_id=b", "customer_id: given more than once"),
        (f"/v1/charges?{'x' * 5_000}=1", "x" * 80 + ": unknown query parameter"),
    ],
)
def test_an_unknown_or_repeated_query_parameter_is_refused(shared_api: Api, path: str, detail: str) -> None:
    assert refused(shared_api.client.get(path)).startswith(detail)


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("PUT", "/v1/customers/acme", {"nme": "x"}, "nme: unknown field, did you mean name?"),
        ("PUT", "/v1/customers/acme", {"name": "x", "zzz": 1}, "zzz: unknown field"),
        ("PUT", "/v1/customers/acme?name=x", {}, "name: unknown query parameter"),
        ("PUT", "/v1/cancel-policies/openai", {"polcy": "zero"}, "polcy: unknown field, did you mean policy?"),
        ("PUT", "/v1/markups/acme", {"percent": "1", "from": "x"}, "from: unknown field"),
        (
            "PUT",
            "/v1/rates/openai/gpt",
            {"rates": [{"kind": "input", "usd_per_milion": "1"}]},
            "rates.0: usd_per_milion: unknown field, did you mean usd_per_million?",
        ),
        (
            "PUT",
            "/v1/rates/openai/gpt",
            {"rates": [{"kind": "input", "usd_per_million": "1", "daily": {"start": "01:00", "stop": "02:00"}}]},
            "rates.0.daily: stop: unknown field",
        ),
        ("POST", "/v1/alerts", {"threshold": ["1"]}, "threshold: unknown field, did you mean thresholds?"),
        ("POST", "/v1/webhook-endpoints", {"uri": "https://x"}, "uri: unknown field, did you mean url?"),
        (
            "POST",
            "/v1/streams/acme/s/resolution",
            {"acton": "write_off"},
            "acton: unknown field, did you mean action?",
        ),
    ],
)
def test_an_unknown_field_of_a_body_is_refused(
    shared_api: Api, method: str, path: str, body: dict[str, Any], detail: str
) -> None:
    assert refused(shared_api.client.request(method, path, json=body)).startswith(detail)


def test_an_adjustment_with_an_unknown_field_books_nothing(shared_api: Api) -> None:
    shared_api.client.put("/v1/customers/acme", json={})
    credit = {"customer_id": "acme", "usd_cents": "-5", "reason": "outage", "note": "x"}
    answer = shared_api.client.post("/v1/adjustments", json=credit, headers={"idempotency-key": "k"})
    assert refused(answer) == "note: unknown field"
    assert shared_api.client.get("/v1/adjustments").json()["data"] == []


def test_unknown_fields_of_events_are_accepted_and_told(api: Api) -> None:
    answer = api.client.post("/v1/events?trace=1", json={**start(modle="x"), "extension": "x"}).json()
    assert (answer["accepted"], answer["rejected"]) == (1, [])
    assert [(told["index"], told["field"], told["hint"]) for told in answer["warnings"]] == [
        (0, "extension", "not a field of the contract: it is kept, and not used"),
        (0, "data.modle", "did you mean model?"),
    ]


@pytest.mark.parametrize("path", ["/v1/totals", "/v1/charges"])
def test_a_plus_that_the_url_turned_into_a_space_is_named(shared_api: Api, path: str) -> None:
    says = refused(shared_api.client.get(f"{path}?from=2026-11-01T00:00:00+01:00&to=2026-12-01T00:00:00Z"))
    assert says == "from: write + as %2B in a URL, such as 2026-11-01T00:00:00%2B01:00"


def test_an_unknown_path_is_named_with_where_all_paths_are(shared_api: Api) -> None:
    answer = shared_api.client.get("/v1/nosuch")
    assert answer.status_code == 404
    assert answer.json()["title"] == "Not found"
    assert answer.json()["detail"] == "there is no path /v1/nosuch; /docs lists all"


def test_without_a_key_the_names_are_not_looked_at(shared_api: Api) -> None:
    with shared_api.client_with(Role.INGEST) as ingest:
        assert ingest.get("/v1/charges?form=x").status_code == 403
    anonymous = shared_api.client.get("/v1/charges?form=x", headers={"authorization": ""})
    assert anonymous.status_code == 401


def test_probes_and_stripe_may_send_what_they_like(shared_api: Api) -> None:
    assert shared_api.client.get("/livez?probe=1").status_code == 200
    assert shared_api.client.get("/readyz?probe=1").status_code == 200
    # Webhooks are not set up here: it is refused for that, and not for its query.
    signed = {"stripe-signature": "t=1,v1=x"}
    answer = shared_api.client.post("/v1/stripe/webhook?account=x", json={"any": 1}, headers=signed)
    assert answer.status_code == 404


@pytest.mark.parametrize("moment", [0, 1_793_000_000, "0", "1793000000", True, "2026", "tomorrow", ""])
def test_a_time_that_is_not_rfc_3339_is_refused(shared_api: Api, moment: object) -> None:
    body = {"policy": "zero", "effective_from": moment}
    detail = refused(shared_api.client.put("/v1/cancel-policies/openai", json=body))
    assert detail == "effective_from: expected RFC 3339 with an offset, such as 2026-11-23T15:00:00Z"
    refused(shared_api.client.get("/v1/charges", params={"from": str(moment)}))
    refused(shared_api.client.put("/v1/markups/acme", json={"percent": "1", "effective_from": moment}))


@pytest.mark.parametrize("moment", ["2026-11-23T15:00:00", "0001-01-01T00:00:00+14:00", "2026-13-01T00:00:00Z"])
def test_a_time_without_offset_or_out_of_the_calendar_is_refused(shared_api: Api, moment: str) -> None:
    body = {"policy": "zero", "effective_from": moment}
    assert "effective_from" in refused(shared_api.client.put("/v1/cancel-policies/openai", json=body))


@pytest.mark.parametrize("clock", [0, 3600, "3600"])
def test_a_time_of_day_is_text(shared_api: Api, clock: object) -> None:
    rate = {"kind": "input", "usd_per_million": "1", "daily": {"start": clock, "end": "02:00"}}
    detail = refused(shared_api.client.put("/v1/rates/openai/gpt", json={"rates": [rate]}))
    assert detail == "rates.0.daily.start: expected a time of day, such as 23:30:00"


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[]", b"7", b""])
def test_a_body_that_is_no_object_is_refused(shared_api: Api, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    refused(shared_api.client.put("/v1/customers/acme", content=body, headers=headers))


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/adjustments", "GET, POST"),
        ("POST", "/v1/rates/openai/gpt-5", "PUT"),
        ("POST", "/v1/markups/acme", "GET, PUT"),
        ("PUT", "/v1/alerts/alr_1", "DELETE, GET, PATCH"),
        ("POST", "/v1/charges", "GET"),
        ("GET", "/v1/events", "POST"),
        ("POST", "/v1/customers/acme", "GET, PUT"),
        ("DELETE", "/v1/streams/acme/s/resolution", "POST"),
        ("GET", "/v1/stripe/webhook", "POST"),
        ("POST", "/livez", "GET"),
    ],
)
def test_a_wrong_method_gets_every_method_that_the_path_has(
    shared_api: Api, method: str, path: str, allow: str
) -> None:
    answer = shared_api.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.json()["type"] == "/problems/method-not-allowed"

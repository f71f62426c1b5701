"""Values that are legal JSON and mean trouble: refused with their field, or read the same by everybody."""

import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from metering.audit.run import audit
from tests.api.described import operations
from tests.builders.posted import stream
from tests.running_api import Api, put

_NUL = "a\0b"
# Their bodies are the formats of others, read by the rules of those formats (tests/translations and the tests
# beside this file). A record that cannot be billed there is left out and named; the rest is taken.
_FORMATS_OF_OTHERS = (
    "/v1/traces",
    "/v1/logs",
    "/v1/events/access-log",
    "/v1/events/litellm",
    "/api/v1/events",
    "/v3/openmeter/events",
)


@pytest.mark.parametrize("sent", ["-0", "-0.00", "0.000000000000", 0])
def test_no_rate_is_negative_zero_and_the_audit_agrees_with_what_was_sent(api: Api, sent: str | int) -> None:
    card = put(api, "/v1/rates/house/free-1", rates=[{"kind": "input", "usd_per_million": sent}])
    assert card["rates"][0]["usd_per_million"] == "0"
    assert audit(engine=api.service.engine, now=datetime.now(UTC)).differences == []


@pytest.mark.parametrize(
    "sent",
    [
        "1e3",
        "1E+3",
        "+1",
        " 1",
        "1 ",
        "1_000",
        "\u0663",
        "0x10",
        "NaN",
        "Infinity",
        "",
        ".5",
        "1.",
        0.5,
        True,
        None,
    ],
)
def test_a_number_is_text_in_plain_digits(api: Api, sent: Any) -> None:
    bodies = {
        "/v1/rates/house/m": {"rates": [{"kind": "input", "usd_per_million": sent}]},
        "/v1/markups/acme": {"markup_percent": sent},
    }
    for path, body in bodies.items():
        answer = api.client.put(path, json=body)
        assert answer.status_code == 422, path
        assert answer.json()["type"] == "/problems/invalid-parameter"


def bodies(api: Api) -> Iterator[tuple[str, str, str]]:
    """(method, path, field) of each field of each JSON body that a route declares."""
    described = api.client.get("/openapi.json").json()
    for path, method, operation in operations(described):
        if path in _FORMATS_OF_OTHERS:
            continue
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        named = schema.get("$ref", "").rpartition("/")[2]
        for field in described["components"]["schemas"].get(named, {}).get("properties", {}):
            yield method, re.sub(r"{\w+}", "x", path), field


def test_text_with_nul_is_refused_in_every_field_of_every_body(api: Api) -> None:
    asked = list(bodies(api))
    assert len({path for _, path, _ in asked}) > 10
    for method, path, field in asked:
        for body in ({field: _NUL}, {field: [_NUL]}, {field: [{"a": _NUL}]}):
            answer = api.client.request(method, path, json=body)
            assert answer.status_code == 422, (method, path, body, answer.text)
            assert "contains NUL" in answer.json()["detail"], (method, path, body, answer.text)


ODD_PATHS = (
    "/v1/streams/a%00b/c",
    "/v1/streams/a/b%00c/receipt",
    "/v1/streams/a/%FF/events",
    "/v1/rates/a%00/b",
    "/v1/totals?from=0001-01-01T00:00:00%2B14:00&to=9999-12-31T23:59:59-14:00",
    "/v1/charges?model=a%00",
    "/v1/totals?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&time_zone=localtime",
    "/v1/invoices?customer_id=%00",
    "/v1/charges?cursor=WyJhIl0",
    "/v1/charges?cursor=%00",
    "/v1/backlog?cursor=WzEsMl0",
    "/v1/adjustments?period=0000-00",
    "/v1/charges?from=0001-01-01T00:00:00%2B14:00",
    "/v1/alerts?customer_id=%00",
    "/v1/audit-log?cursor=%00",
    "/v1/charges?limit=99999999999999999999",
    "/v1/charges?limit=1e3",
    "/v1/charges?limit=-1",
)


@pytest.mark.parametrize("path", ODD_PATHS)
def test_an_odd_question_is_the_askers_mistake(api: Api, path: str) -> None:
    assert 400 <= api.client.get(path).status_code < 500


def test_more_finish_reasons_than_choices_that_any_provider_takes_are_refused(api: Api) -> None:
    begun, end = stream("s")
    end["data"]["finish_reasons"] = ["stop"] * 128
    assert api.post([begun, end]).json()["rejected"] == []
    end = {**end, "id": "other", "data": {**end["data"], "finish_reasons": ["stop"] * 129}}
    (rejected,) = api.post([end]).json()["rejected"]
    assert rejected["code"] == "invalid-field"
    assert rejected["detail"].startswith("data.finish_reasons")


def deep(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    "body",
    [
        '{"\\ud800": 1}',
        '{"name": "\\udfff"}',
        '{"name": {"\\ud800": 1}}',
        f'{{"name": {deep(150)}}}',
        f'{{"name": {deep(900)}}}',
        f'{{"name": {deep(30_000)}}}',
        "[" * 100_000,
        '{"name": NaN}',
        '{"name": -Infinity}',
        f'{{"name": {"9" * 5_000}}}',
        f'{{"name": "{"9" * 5_000}"}}',
        '{"name": 1e999}',
        '{"name": "a", "name": "b"}',
        "\ufeff{}",
        '{"name": "a"} {"name": "b"}',
        f'{{"{"k" * 100_000}": 1}}',
        "{" + ",".join(f'"k{number}": 1' for number in range(20_000)) + "}",
    ],
)
def test_odd_json_is_refused_by_every_route_that_reads_json(api: Api, body: str) -> None:
    asked = {(method, path) for method, path, _ in bodies(api)}
    for method, path in asked:
        headers = {"content-type": "application/json", "idempotency-key": "k"}
        answer = api.client.request(method, path, content=body.encode(), headers=headers)
        assert answer.status_code == 422, (method, path, answer.text)
        assert answer.json()["type"] == "/problems/invalid-parameter"


@pytest.mark.parametrize(
    "body", ['{"name": "ä"}'.encode("latin-1"), '{"name": "a"}'.encode("utf-16"), b"\x00", b""]
)
def test_a_body_in_another_encoding_is_refused(shared_api: Api, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = shared_api.client.put("/v1/customers/acme", content=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-parameter")


def test_an_integer_and_a_truth_value_are_what_json_has_for_them(api: Api) -> None:
    described = api.client.get("/openapi.json").json()["components"]["schemas"]
    asked = 0
    for method, path, field in bodies(api):
        types = declared_types(described, method, path, field, api)
        if not types & {"integer", "boolean"} or "string" in types:
            continue
        for given in ("true", "1", "", "no", [], {}, 1 if "boolean" in types else True, 1.5):
            answer = api.client.request(method, path, json={field: given}, headers={"idempotency-key": "k"})
            assert answer.status_code == 422, (method, path, field, given, answer.text)
            assert answer.json()["detail"].count(f"{field}:"), (method, path, field, given, answer.text)
            asked += 1
    assert asked > 30


def declared_types(described: Any, method: str, path: str, field: str, api: Api) -> set[str]:
    """The JSON types of a field of a body."""
    operation = next(
        each
        for template, verb, each in operations(api.client.get("/openapi.json").json())
        if verb == method and re.sub(r"{\w+}", "x", template) == path
    )
    content = operation["requestBody"]["content"]["application/json"]["schema"]
    properties = described[content["$ref"].rpartition("/")[2]]["properties"][field]
    return {each.get("type", "") for each in properties.get("anyOf", [properties])}


@pytest.mark.parametrize("path", ["/v1/events", "/v1/customers/acme", "/dashboard/sign-in"])
@pytest.mark.parametrize("digits", ["0" * 9_999 + "2", "9" * 9_999, "0" * 9_999])
def test_a_length_with_thousands_of_digits_is_refused_or_read(shared_api: Api, path: str, digits: str) -> None:
    host, port = shared_api.url.removeprefix("http://").split(":")
    key = shared_api.client.headers["authorization"]
    method = "PUT" if "customers" in path else "POST"
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\ncontent-length: {digits}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(head.encode() + b"{}")
        assert client.recv(65_536)[9:10] == b"4"


@pytest.mark.parametrize("at", ["2026-11-01", "2026-11-01T00:00:00", "-999999999999999999", "999999999999999999"])
def test_a_cursor_with_an_odd_time_is_a_position_or_refused(api: Api, at: str) -> None:
    assert api.post(stream("s")).status_code == 200
    for path in ("/v1/streams/acme/s/events?cursor=p.{}.1.1", "/v1/charges?cursor=p.{}.a.b"):
        expected = 200 if at.removeprefix("-").isdecimal() else 422
        assert api.client.get(path.format(at)).status_code == expected, (path, at)

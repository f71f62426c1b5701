"""Values that are legal JSON and mean trouble: refused with their field, or read the same by everybody."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from metering.audit.run import audit
from tests.api.described import operations
from tests.running_api import Api, put

_NUL = "a\0b"


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

"""A connection to PostgreSQL that breaks while a request's key is looked up: the answer says to try again."""

from typing import Any

import psycopg
import pytest

from metering.access.scopes import Role
from tests.database import Database
from tests.lost_connections import breaking
from tests.running_api import Api

REQUESTS = [
    ("POST", "/v1/events", []),
    ("POST", "/v1/traces", {"resourceSpans": []}),
    ("POST", "/v1/holds", {}),
    ("GET", "/v1/streams", None),
    ("GET", "/v1/exports/charges.csv?period=2026-10", None),
    ("PUT", "/v1/customers/acme", {"name": "Acme"}),
]


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS, ids=lambda value: str(value)[:30])
def test_a_request_whose_key_cannot_be_looked_up_is_told_to_come_again(
    api: Api, rated_database: Database, method: str, path: str, body: Any
) -> None:
    with api.client_with(Role.ADMIN) as client:
        with breaking(rated_database, statements="FROM keys WHERE key_id = ANY") as ended:
            answer = client.request(method, path, json=body)
        assert ended
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.json()["type"] == "/problems/store-unavailable"
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert client.request(method, path, json=body).status_code in {200, 404, 422}


def test_a_statement_that_fails_by_our_fault_is_a_500_that_is_logged(
    api: Api, rated_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with api.client_with(Role.INGEST) as client:
        with psycopg.connect(rated_database.url) as owner:
            owner.execute("REVOKE SELECT ON keys FROM metering_service")
        answer = client.post("/v1/events", json=[])
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
    assert "unexpected error" in caplog.text

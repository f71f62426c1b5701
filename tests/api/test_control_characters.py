"""Control characters in customer ids: refused for new customers, and reachable where one has them already."""

from urllib.parse import quote

import psycopg
import pytest

from tests.builders.posted import event, start
from tests.database import Database
from tests.running_api import Api

ODD = ["acme\n", "ac\nme", "\tacme", "ac\x7fme", "ac\x85me", "\x1b[31macme"]


def known(api: Api) -> list[str]:
    return [each["customer_id"] for each in api.client.get("/v1/customers").json()["data"]]


@pytest.mark.parametrize("customer_id", ODD)
def test_an_event_of_such_a_customer_is_rejected_and_its_neighbours_are_not(
    shared_api: Api, customer_id: str
) -> None:
    odd = event("stream-start", start("odd")["data"], subject=customer_id)
    answer = shared_api.post([start("fine"), odd]).json()
    assert answer["accepted"] == 1
    (rejected,) = answer["rejected"]
    assert (rejected["index"], rejected["code"]) == (1, "invalid-field")
    assert rejected["detail"].startswith("subject: expected a customer id without control characters, got ")


@pytest.mark.parametrize("customer_id", ODD)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/customers/{}", {"name": "Acme"}),
        ("/v1/markups/{}", {"percent": "1"}),
        ("/v1/rates/house/m", {"rates": [{"kind": "input", "usd_per_million": "1"}], "customer_id": None}),
    ],
)
def test_no_other_way_makes_such_a_customer(
    shared_api: Api, customer_id: str, path: str, body: dict[str, object]
) -> None:
    body = {**body, "customer_id": customer_id} if "customer_id" in body else body
    answer = shared_api.client.put(path.format(quote(customer_id, safe="")), json=body)
    assert answer.status_code == 422
    assert "without control characters" in answer.json()["detail"]
    assert customer_id not in [
        each["customer_id"] for each in shared_api.client.get("/v1/customers").json()["data"]
    ]


@pytest.mark.parametrize("customer_id", ODD)
def test_one_that_is_stored_already_is_reached_by_its_encoded_id(
    api: Api, rated_database: Database, customer_id: str
) -> None:
    with psycopg.connect(rated_database.url) as connection:
        connection.execute("INSERT INTO customers (customer_id, created_at) VALUES (%s, now())", (customer_id,))
    written = quote(customer_id, safe="")
    linked = api.client.put(f"/v1/customers/{written}", json={"stripe_customer_id": "cus_1"})
    assert (linked.status_code, linked.json()["customer_id"]) == (200, customer_id)
    assert api.client.put(f"/v1/markups/{written}", json={"percent": "1"}).json()["customer_id"] == customer_id
    (markup,) = api.client.get(f"/v1/markups/{written}").json()["data"]
    assert markup["customer_id"] == customer_id
    assert api.client.get(f"/v1/streams/{written}/s").status_code == 404
    assert known(api) == [customer_id]

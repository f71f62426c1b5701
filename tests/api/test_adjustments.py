"""Credits and corrections: booked once for a key, shown with their stream, and in every total."""

import threading
from typing import Any

import psycopg
import pytest

from metering.access.scopes import Role
from metering.ledger.store.rollups import roll_up_totals
from tests.builders.posted import stream
from tests.running_api import CREDIT, Api, adjust, bill

MONTHS = {"from": "2026-01-01T00:00:00Z", "to": "2027-12-01T00:00:00Z"}


def total(api: Api, **params: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = api.client.get("/v1/totals", params={**MONTHS, **params}).json()["data"]
    return rows


def test_a_credit_is_booked_once_however_often_it_is_asked_for(api: Api) -> None:
    bill(api, stream("s1"))
    answers = [adjust(api) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["note"] == "an outage"
    assert answers[0].json()["kind"] == answers[0].json()["reason"] == "credit"
    assert [row["cost_usd_cents"] for row in total(api)] == ["-100.0015"]
    assert adjust(api, "k2").json()["adjustment_id"] != answers[0].json()["adjustment_id"]


@pytest.mark.parametrize("changes", [{"usd_cents": "-100.6"}, {"reason": "another"}, {"stream_id": "s1"}])
def test_a_key_that_was_used_for_another_request_is_refused(api: Api, changes: dict[str, str]) -> None:
    bill(api, stream("s1"))
    assert adjust(api).status_code == 200
    refused = adjust(api, **changes)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert len(total(api, group_by="customer_id")) == 1


def test_the_same_amount_in_another_spelling_is_the_same_request(api: Api) -> None:
    bill(api, stream("s1"))
    assert adjust(api, usd_cents="-100.50").text == adjust(api, usd_cents="-100.5").text


def test_a_request_whose_key_is_in_use_gets_retry_after(api: Api) -> None:
    bill(api, stream("s1"))
    url = api.service.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    with psycopg.connect(url) as beside:
        beside.execute("SELECT pg_advisory_xact_lock(hashtextextended('k1', 6))")
        refused = adjust(api)
        assert (refused.status_code, refused.headers["retry-after"]) == (409, "1")
    assert adjust(api).status_code == 200


def test_many_requests_with_one_key_at_once_book_one_credit(api: Api) -> None:
    bill(api, stream("s1"))
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(adjust(api).status_code)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 409}
    assert 200 in statuses
    assert [row["cost_usd_cents"] for row in total(api)] == ["-100.0015"]


def test_a_correction_of_a_stream_is_part_of_its_cost_and_filed_with_it(api: Api) -> None:
    bill(api, stream("s1"))
    answer = adjust(api, kind="correction", usd_cents="0.0015", stream_id="s1")
    assert answer.status_code == 200, answer.text
    shape = api.client.get("/v1/streams/acme/s1").json()
    assert shape["cost_usd_cents"] == "0.5"
    assert [(entry["reason"], entry["usd_cents"]) for entry in shape["adjustments"]] == [("correction", "0.0015")]
    minutes = {"from": "2026-11-23T15:00:00Z", "to": "2026-11-23T15:00:05Z", "group_by": "model,outcome"}
    for _ in range(2):
        for params in ({"granularity": "day", "group_by": "model,outcome"}, minutes):
            (row,) = total(api, **params)
            assert (row["model"], row["outcome"], row["stream_count"]) == ("claude-opus-4.7", "completed", 1)
            assert row["cost_usd_cents"] == "0.5"
        roll_up_totals(api.service.engine)


def test_later_facts_leave_a_correction_as_it_is(api: Api) -> None:
    bill(api, stream("s1"))
    adjust(api, kind="correction", usd_cents="1", stream_id="s1")
    late = stream("s1")[1]
    late["data"] = {**late["data"], "usage": {"input_tokens": 0, "output_tokens": 40}}
    late["time"] = "2026-11-23T15:00:01Z"
    again = bill(api, [stream("s1")[0], late])
    assert again["state"] == "conflicting"
    assert [row["cost_usd_cents"] for row in total(api)] == ["1"]


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"usd_cents": "0"}, 422, "usd_cents"),
        ({"usd_cents": "5"}, 422, "usd_cents"),
        ({"usd_cents": "NaN"}, 422, "usd_cents"),
        ({"usd_cents": "-1e40"}, 422, "usd_cents"),
        ({"reason": " "}, 422, "reason"),
        ({"stream_id": "none"}, 422, "stream_id"),
        ({"customer_id": "nobody"}, 404, "customer_id"),
        ({"kind": "gift"}, 422, "kind"),
    ],
)
def test_what_makes_no_adjustment_is_refused_with_its_field(
    api: Api, changes: dict[str, str], status: int, field: str
) -> None:
    bill(api, stream("s1"))
    answer = adjust(api, **changes)
    assert answer.status_code == status
    assert field in answer.json()["detail"]
    assert adjust(api).status_code == 200


def test_a_key_is_needed_and_an_admin(api: Api) -> None:
    assert api.client.post("/v1/adjustments", json=CREDIT).status_code == 422
    with api.client_with(Role.READ) as reader:
        assert reader.post("/v1/adjustments", json=CREDIT, headers={"idempotency-key": "k"}).status_code == 403


def test_what_was_booked_is_listed_newest_first_page_by_page(api: Api) -> None:
    bill(api, stream("s1"))
    for number in range(3):
        assert adjust(api, f"k{number}", reason=f"reason {number}").status_code == 200
    assert api.client.put("/v1/customers/globex", json={}).status_code == 200
    assert adjust(api, "other", customer_id="globex").status_code == 200
    asked = {"customer_id": "acme", "limit": 2}
    first = api.client.get("/v1/adjustments", params=asked).json()
    assert [row["note"] for row in first["data"]] == ["reason 2", "reason 1"]
    rest = api.client.get("/v1/adjustments", params={**asked, "cursor": first["next_cursor"]}).json()
    assert ([row["note"] for row in rest["data"]], rest["next_cursor"]) == (["reason 0"], None)
    assert len(api.client.get("/v1/adjustments").json()["data"]) == 4
    assert api.client.get("/v1/adjustments", params={"period": "2001-01"}).json()["data"] == []
    refused = api.client.get("/v1/adjustments", params={"period": "October"})
    assert (refused.status_code, "period" in refused.json()["detail"]) == (422, True)

"""Grants over HTTP: made, read, voided and refunded; balances now and in the past; deferred revenue."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metering.access.scopes import Role
from tests.builders.posted import stream
from tests.running_api import Api, bill, put

GRANT = {
    "customer_id": "acme",
    "amount_usd_cents": "12000",
    "paid_usd_cents": "10000",
    "funding": "external",
    "reason": "order 4711",
}
PROMOTION = {**GRANT, "paid_usd_cents": "0", "funding": "none"}


def give(api: Api, key: str = "g1", **changes: Any) -> Any:
    return api.client.post("/v1/grants", json={**GRANT, **changes}, headers={"idempotency-key": key})


def made(api: Api, key: str = "g1", **changes: Any) -> dict[str, Any]:
    put(api, "/v1/customers/acme")
    answer = give(api, key, **changes)
    assert answer.status_code == 200, answer.text
    shape: dict[str, Any] = answer.json()
    return shape


def refund(api: Api, grant_id: str, key: str = "r1", **body: Any) -> Any:
    given = {"reason": "contract ended", **body}
    return api.client.post(f"/v1/grants/{grant_id}/refund", json=given, headers={"idempotency-key": key})


def balance(api: Api, **params: str) -> dict[str, Any]:
    shape: dict[str, Any] = api.client.get("/v1/customers/acme/balance", params=params).json()
    return shape


def ahead(**time: int) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


def test_a_grant_pays_for_a_stream_and_shows_for_which(api: Api) -> None:
    grant = made(api)
    booked = bill(api, stream("s1"))
    shown = api.client.get(f"/v1/grants/{grant['grant_id']}").json()
    assert (shown["balance_usd_cents"], shown["state"]) == ("11999.5015", "active")
    drawn, granted = shown["entries"]
    assert (drawn["kind"], drawn["usd_cents"], drawn["stream_id"]) == ("drawn", "-0.4985", "s1")
    assert drawn["entry_id"] == booked["charge"]["charge_id"]
    assert (granted["kind"], granted["usd_cents"], granted["entry_id"]) == ("granted", "12000", None)
    assert balance(api)["available_usd_cents"] == "11999.5015"


def test_a_repeated_request_makes_one_grant(api: Api) -> None:
    first = made(api)
    assert give(api).json() == first
    refused = give(api, amount_usd_cents="1")
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert len(api.client.get("/v1/grants", params={"customer_id": "acme"}).json()["data"]) == 1


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"amount_usd_cents": "0"}, 422, "amount_usd_cents"),
        ({"amount_usd_cents": 0.5}, 422, "amount_usd_cents"),
        ({"paid_usd_cents": "0.5"}, 422, "paid_usd_cents"),
        ({"funding": "none"}, 422, "funding"),
        ({"funding": "gift"}, 422, "funding"),
        ({"priority": 1001}, 422, "priority"),
        ({"priority": True}, 422, "priority"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 422, "expires_at"),
        ({"only": {"model": ["gpt-5.5"]}}, 422, "only"),
        ({"only": {"models": [""]}}, 422, "only"),
        ({"reason": " "}, 422, "reason"),
        ({"customer_id": "globex"}, 404, "customer_id"),
    ],
)
def test_other_terms_are_refused_with_their_field(
    api: Api, changes: dict[str, Any], status: int, field: str
) -> None:
    put(api, "/v1/customers/acme")
    answer = give(api, **changes)
    assert (answer.status_code, field in answer.json()["detail"]) == (status, True), answer.text


def test_grants_are_listed_newest_first_page_by_page(api: Api) -> None:
    grants = [made(api, f"g{number}")["grant_id"] for number in range(3)]
    put(api, "/v1/customers/globex")
    made(api, "other", customer_id="globex")
    params: dict[str, Any] = {"customer_id": "acme", "limit": 2}
    first = api.client.get("/v1/grants", params=params).json()
    second = api.client.get("/v1/grants", params={**params, "cursor": first["next_cursor"]}).json()
    assert [each["grant_id"] for page in (first, second) for each in page["data"]] == grants[::-1]
    assert second["next_cursor"] is None
    assert api.client.get("/v1/grants", params={"state": "voided"}).json()["data"] == []


def test_the_entries_of_a_grant_are_read_page_by_page(api: Api) -> None:
    grant = made(api)
    for number in range(3):
        bill(api, stream(f"s{number}"))
    url = f"/v1/grants/{grant['grant_id']}"
    first = api.client.get(url, params={"limit": 2}).json()
    second = api.client.get(url, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [each["entry_number"] for page in (first, second) for each in page["entries"]] == [4, 3, 2, 1]


def test_a_voided_grant_pays_nothing_more(api: Api) -> None:
    grant = made(api, **PROMOTION)
    url = f"/v1/grants/{grant['grant_id']}/void"
    answers = [api.client.post(url, json={"reason": "mistake"}).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert (answers[0]["state"], answers[0]["balance_usd_cents"]) == ("voided", "0")
    bill(api, stream("s1"))
    entries = api.client.get(url.removesuffix("/void")).json()["entries"]
    assert [each["kind"] for each in entries] == [
        "voided",
        "granted",
    ]
    log = api.client.get("/v1/audit-log", params={"kind": "grant"}).json()["data"]
    assert sorted(each["action"] for each in log) == ["create", "void"]


def test_a_refund_says_what_to_pay_back_and_happens_once(api: Api) -> None:
    grant = made(api)
    first = refund(api, grant["grant_id"], usd_cents="6000").json()
    assert (first["refund_cents"], first["balance_usd_cents"]) == (5000, "6000")
    assert refund(api, grant["grant_id"], usd_cents="6000").json() == first
    assert refund(api, grant["grant_id"], "r2").json()["refund_cents"] == 5000
    nothing_left = refund(api, grant["grant_id"], "r3")
    assert (nothing_left.status_code, nothing_left.json()["type"]) == (409, "/problems/grant-not-active")
    assert refund(api, "gr_none", "r9").status_code == 404
    assert refund(api, made(api, "p", **PROMOTION)["grant_id"], "r4").status_code == 422


def test_a_balance_says_what_expires_when_what_is_limited_and_what_comes_later(api: Api) -> None:
    made(api, expires_at=ahead(days=10), amount_usd_cents="100")
    made(api, "later", effective_from=ahead(days=5), amount_usd_cents="30")
    made(api, "limited", only={"models": ["gpt-5.5"]}, amount_usd_cents="7", priority=1)
    shown = balance(api)
    assert (shown["balance_usd_cents"], shown["limited_usd_cents"], shown["upcoming_usd_cents"]) == (
        "107",
        "7",
        "30",
    )
    assert (shown["held_usd_cents"], shown["available_usd_cents"]) == ("0", "100")
    assert [(each["balance_usd_cents"], each["limited"]) for each in shown["grants"]] == [
        ("7", True),
        ("100", False),
        ("30", False),
    ]
    assert shown["grants"][1]["expires_at"] is not None


def test_a_balance_of_the_past_is_what_it_was_then(api: Api) -> None:
    made(api)
    then = datetime.now(UTC).isoformat()
    bill(api, stream("s1"))
    past = balance(api, as_of=then)
    assert (past["balance_usd_cents"], past["held_usd_cents"], past["available_usd_cents"]) == (
        "12000",
        None,
        None,
    )
    assert balance(api, as_of="2026-01-01T00:00:00Z")["balance_usd_cents"] == "0"


def test_a_customer_whose_id_has_a_slash_has_a_balance(api: Api) -> None:
    put(api, "/v1/customers/a%2Fbalance")
    made(api, customer_id="a/balance")
    assert api.client.get("/v1/customers/a%2Fbalance/balance").json()["balance_usd_cents"] == "12000"
    assert api.client.get("/v1/customers/a%2Fbalance").json()["customer_id"] == "a/balance"
    assert api.client.get("/v1/customers/none/balance").status_code == 404


def test_deferred_revenue_of_a_month_adds_up_by_grant_and_in_all(api: Api) -> None:
    grants = [made(api, f"g{number}")["grant_id"] for number in range(3)]
    made(api, "promotion", **PROMOTION)
    bill(api, stream("s1"))
    refund(api, grants[1], usd_cents="6000")
    month = f"{datetime.now(UTC):%Y-%m}"
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.client.get("/v1/deferred-revenue", params={"period": month, "limit": "2", **cursor}).json()
        found += page["data"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert {each["grant_id"] for each in found} == set(grants)
    for each in [*found, page["in_all"]]:
        moved = each["recognised_cents"] + each["breakage_cents"] + each["refunded_cents"]
        assert each["opening_cents"] + each["sold_cents"] - moved == each["closing_cents"]
    assert page["in_all"]["sold_cents"] == 30_000
    assert page["in_all"]["refunded_cents"] == 5_000
    assert page["in_all"]["closing_cents"] == sum(each["closing_cents"] for each in found)
    after = api.client.get("/v1/deferred-revenue", params={"period": "2099-01"}).json()["in_all"]
    assert after["opening_cents"] == after["closing_cents"] == page["in_all"]["closing_cents"]
    assert api.client.get("/v1/deferred-revenue", params={"period": "2020-01"}).json()["data"] == []


def test_a_key_of_one_customer_reads_its_own_grants_only(api: Api) -> None:
    put(api, "/v1/customers/globex")
    foreign = made(api, customer_id="globex")
    own = made(api, "own")
    month = {"period": f"{datetime.now(UTC):%Y-%m}"}
    with api.client_with(Role.READ, customer_id="acme") as reader:
        assert [each["grant_id"] for each in reader.get("/v1/grants").json()["data"]] == [own["grant_id"]]
        assert reader.get(f"/v1/grants/{foreign['grant_id']}").status_code == 404
        assert reader.get("/v1/customers/globex/balance").status_code == 403
        assert reader.get("/v1/customers/acme/balance").status_code == 200
        deferred = reader.get("/v1/deferred-revenue", params=month).json()
        assert [each["customer_id"] for each in deferred["data"]] == ["acme"]
        assert deferred["in_all"]["sold_cents"] == 10_000
        assert reader.post(f"/v1/grants/{own['grant_id']}/void", json={"reason": "x"}).status_code == 403


TOP_UP = {"when_below_usd_cents": "1000", "buy_usd_cents": "5000", "at_most_a_day": 2}


def test_a_top_up_is_set_read_and_on_the_audit_log(api: Api) -> None:
    put(api, "/v1/customers/acme")
    assert api.client.get("/v1/customers/acme/top-up").status_code == 404
    first = put(api, "/v1/customers/acme/top-up", **TOP_UP)
    assert api.client.get("/v1/customers/acme/top-up").json() == first
    put(api, "/v1/customers/acme/top-up", **{**TOP_UP, "at_most_a_day": 0})
    newest, oldest = api.client.get("/v1/audit-log", params={"kind": "top-up"}).json()["data"]
    assert (oldest["before"], newest["before"]["at_most_a_day"], newest["after"]["at_most_a_day"]) == (None, 2, 0)


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"buy_usd_cents": "49"}, 422, "buy_usd_cents"),
        ({"when_below_usd_cents": "0"}, 422, "when_below_usd_cents"),
        ({"at_most_a_day": 101}, 422, "at_most_a_day"),
        ({"at_most_a_day": "2"}, 422, "at_most_a_day"),
    ],
)
def test_a_top_up_with_other_terms_is_refused(api: Api, changes: dict[str, Any], status: int, field: str) -> None:
    put(api, "/v1/customers/acme")
    answer = api.client.put("/v1/customers/acme/top-up", json={**TOP_UP, **changes})
    assert (answer.status_code, field in answer.json()["detail"]) == (status, True)
    assert api.client.put("/v1/customers/none/top-up", json=TOP_UP).status_code == 404

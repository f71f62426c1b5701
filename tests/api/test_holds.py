"""Budgets and holds over HTTP, as an admin and a gateway use them."""

from typing import Any

import httpx2
import pytest

from metering.access.manage_access import NewKey, issue_key
from metering.access.scopes import Role
from metering.core.clock import utc_now
from tests.metrics import Scrape, scrape_work
from tests.running_api import Api, http_client
from tests.waiting import eventually

BODY = {
    "customer_id": "acme",
    "stream_id": "s",
    "provider": "anthropic",
    "model": "claude-opus-4.7",
    "input_tokens": 812,
    "max_output_tokens": 100,
}
MONTHLY = {"scope": {"customer_id": "acme"}, "window": "month", "limit_usd_cents": "1"}


@pytest.fixture
def client(api: Api) -> httpx2.Client:
    api.client.put("/v1/customers/acme", json={"name": "Acme"})
    return api.client


def _events(*events: dict[str, Any]) -> list[dict[str, Any]]:
    now = utc_now().isoformat()
    envelope = {"specversion": "1.0", "source": "/test", "subject": "acme", "time": now}
    return [{**envelope, "id": f"{each['type']}-{each['data'].get('seq', '')}", **each} for each in events]


def _started(stream_id: str = "s") -> dict[str, Any]:
    data = {"stream_id": stream_id, "provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812}
    return {"type": "stream-start", "data": data}


def _delivered(tokens: int, stream_id: str = "s") -> dict[str, Any]:
    return {"type": "token-delivered", "data": {"stream_id": stream_id, "seq": tokens, "output_tokens": tokens}}


def test_a_hold_says_what_is_held_until_when_and_what_is_left(client: httpx2.Client) -> None:
    assert client.put("/v1/budgets/acme-monthly", json=MONTHLY).status_code == 200
    answer = client.post("/v1/holds", json=BODY)
    assert answer.status_code == 201
    held = answer.json()
    assert held["held_usd_cents"] == "0.656"
    assert held["max_output_tokens"] == 100
    (budget,) = held["budgets"]
    assert (budget["budget_id"], budget["headroom_usd_cents"]) == ("acme-monthly", "0.344")
    assert client.post("/v1/holds", json=BODY).json() == held
    read = client.get("/v1/budgets/acme-monthly").json()
    assert (read["spent_usd_cents"], read["held_usd_cents"], read["open_holds"]) == ("0", "0.656", 1)
    (hold,) = client.get("/v1/holds", params={"customer_id": "acme"}).json()["data"]
    assert (hold["stream_id"], hold["mode"], hold["stopped"]) == ("s", "worst_case", False)


def test_an_exhausted_budget_is_a_402_with_its_figures(client: httpx2.Client) -> None:
    client.put("/v1/budgets/acme-monthly", json=MONTHLY)
    client.post("/v1/holds", json=BODY)
    changed = {"stream_id": "t", "input_tokens": 100, "max_output_tokens": 200}
    refused = client.post("/v1/holds", json={**BODY, **changed})
    assert refused.status_code == 402
    problem = refused.json()
    assert problem["type"] == "/problems/budget-exhausted"
    figures = ("budget_id", "limit_usd_cents", "spent_usd_cents", "held_usd_cents", "needed_usd_cents")
    assert [problem[name] for name in figures] == ["acme-monthly", "1", "0", "0.656", "0.55"]
    assert problem["max_output_tokens_that_fit"] == 117
    assert problem["resets_at"].endswith("Z")


def test_a_key_of_one_customer_holds_only_for_it(api: Api) -> None:
    new = NewKey(role=Role.INGEST, name="gateway", customer_id="acme")
    key = str(issue_key(engine=api.service.engine, new=new, by="test", now=utc_now())[1])
    with http_client(api.url, headers={"authorization": f"Bearer {key}"}) as gateway:
        assert gateway.post("/v1/holds", json=BODY).status_code == 201
        assert gateway.post("/v1/holds", json={**BODY, "customer_id": "globex"}).status_code == 403
        assert gateway.delete("/v1/holds/globex/s").status_code == 403
        assert gateway.delete("/v1/holds/acme/s").status_code == 204
        assert gateway.delete("/v1/holds/acme/nothing").status_code == 404
        assert gateway.get("/v1/budgets").status_code == 403


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input_tokens": -1}, "input_tokens: expected an integer >= 0, got -1"),
        ({"input_tokens": "1"}, "input_tokens: expected an integer, got"),
        ({"inputtokens": 1}, "inputtokens: unknown field, did you mean input_tokens?"),
        ({"mode": "some"}, "mode: expected an allowed value"),
        ({"customer_id": "a\nb"}, "customer_id: expected an id without control characters"),
        ({"tags": {"a": "\0"}}, "tags.a: contains NUL"),
        ({"max_output_tokens": None}, "max_output_tokens: required for mode worst_case"),
        ({"model": "of-nobody"}, "no rate for anthropic/of-nobody"),
    ],
)
def test_a_request_that_is_not_valid_gets_an_answer_that_names_the_field(
    client: httpx2.Client, change: dict[str, Any], says: str
) -> None:
    answer = client.post("/v1/holds", json={**BODY, **change})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_a_stream_whose_input_is_not_known_before_takes_the_budgets_price_for_unknown_ones(
    client: httpx2.Client,
) -> None:
    unknown = {**BODY, "input_tokens": None, "max_output_tokens": None}
    assert client.post("/v1/holds", json=unknown).json()["held_usd_cents"] == "0"
    client.put("/v1/budgets/acme-monthly", json={**MONTHLY, "limit_usd_cents": "10"})
    refused = client.post("/v1/holds", json={**unknown, "stream_id": "t"})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/price-unknown")
    assert "input_tokens: what anthropic/claude-opus-4.7 costs is not known before" in refused.json()["detail"]
    flat = {**MONTHLY, "limit_usd_cents": "10", "unknown_price": {"flat_usd_cents": "3"}}
    assert client.put("/v1/budgets/acme-monthly", json=flat).status_code == 200
    assert client.post("/v1/holds", json={**unknown, "stream_id": "t"}).json()["held_usd_cents"] == "3"


def test_another_body_for_the_same_stream_is_a_conflict(client: httpx2.Client) -> None:
    client.post("/v1/holds", json=BODY)
    differs = client.post("/v1/holds", json={**BODY, "max_output_tokens": 99})
    assert (differs.status_code, differs.json()["type"]) == (409, "/problems/hold-differs")


def test_the_answer_to_events_names_streams_whose_sliding_hold_cannot_follow(client: httpx2.Client) -> None:
    client.put("/v1/budgets/acme-monthly", json=MONTHLY)
    sliding = {**BODY, "mode": "sliding", "slice_output_tokens": 100}
    del sliding["max_output_tokens"]
    assert client.post("/v1/holds", json=sliding).json()["held_usd_cents"] == "0.656"
    first = client.post("/v1/events", json=_events(_started(), _delivered(40)))
    assert first.json() == {"accepted": 2, "rejected": []}

    def extended() -> bool:
        client.post("/v1/events", json=_events(_delivered(60)))
        return bool(client.get("/v1/budgets/acme-monthly").json()["held_usd_cents"] == "0.906")

    assert eventually(extended)
    stopped = client.post("/v1/events", json=_events(_delivered(160)))
    assert stopped.json() == {"accepted": 1, "rejected": [], "stop": ["s"]}
    assert client.post("/v1/events", json=_events(_delivered(161))).json()["stop"] == ["s"]


def test_a_hold_of_a_stream_that_began_cannot_be_released(client: httpx2.Client) -> None:
    client.post("/v1/holds", json=BODY)
    client.post("/v1/events", json=_events(_started()))
    refused = client.delete("/v1/holds/acme/s")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/stream-started")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scope": {}}, "scope.customer_id: required"),
        ({"scope": {"customer_id": "acme", "deployment": True}}, "scope: a budget of the deployment has no"),
        ({"scope": {"customer_id": "acme", "tag": {"a": "b", "c": "d"}}}, "scope.tag: expected one name"),
        ({"limit_usd_cents": None}, "limit_usd_cents: required for this window"),
        ({"limit_usd_cents": "-1"}, "limit_usd_cents: expected 0 or more"),
        ({"window": "prepaid"}, "limit_usd_cents: the balance of the grants is the limit"),
        ({"window": "year"}, "window"),
    ],
)
def test_a_budget_that_is_not_valid_is_refused_by_name(
    client: httpx2.Client, change: dict[str, Any], says: str
) -> None:
    answer = client.put("/v1/budgets/b", json={**MONTHLY, **change})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_a_budget_of_an_unknown_customer_is_refused(client: httpx2.Client) -> None:
    assert client.put("/v1/budgets/b", json={**MONTHLY, "scope": {"customer_id": "nosuch"}}).status_code == 404


def test_budgets_are_listed_changed_and_ended(client: httpx2.Client) -> None:
    for name in ("a", "b"):
        client.put(f"/v1/budgets/{name}", json=MONTHLY)
    page = client.get("/v1/budgets", params={"limit": 1}).json()
    rest = client.get("/v1/budgets", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert [each["budget_id"] for each in page["data"] + rest["data"]] == ["a", "b"]
    changed = client.put("/v1/budgets/a", json={**MONTHLY, "limit_usd_cents": "2", "action": "warn"}).json()
    assert (changed["version"], changed["limit_usd_cents"], changed["action"]) == (2, "2", "warn")
    differs = client.put("/v1/budgets/a", json={**MONTHLY, "window": "day"})
    assert (differs.status_code, differs.json()["type"]) == (409, "/problems/budget-differs")
    assert client.delete("/v1/budgets/a").status_code == 204
    assert client.get("/v1/budgets/a").status_code == 404
    log = client.get("/v1/audit-log", params={"limit": 10}).json()["data"]
    done = [(each["action"], each["subject"]) for each in log if each["kind"] == "budget"]
    assert sorted(done) == [("end", "a"), ("set", "a"), ("set", "a"), ("set", "b")]


def test_holds_are_counted_by_their_result(client: httpx2.Client) -> None:
    client.put("/v1/budgets/acme-monthly", json=MONTHLY)
    before = Scrape(client.get("/metrics").text)
    client.post("/v1/holds", json=BODY)
    client.post("/v1/holds", json={**BODY, "stream_id": "t"})
    after = Scrape(client.get("/metrics").text)
    admitted, refused = "metering_holds_admitted_total", "metering_holds_refused_total"
    assert after(admitted) == before(admitted) + 1
    assert after(refused, reason="budget_exhausted") >= 1


def test_open_holds_and_exhausted_budgets_are_metrics(api: Api, client: httpx2.Client) -> None:
    client.put("/v1/budgets/acme-monthly", json=MONTHLY)
    client.put("/v1/budgets/nothing-left", json={**MONTHLY, "limit_usd_cents": "0", "action": "warn"})
    client.post("/v1/holds", json=BODY)
    found = scrape_work(api.service)
    assert (found("metering_holds_open"), found("metering_held_usd_cents")) == (1, 0.656)
    assert (found("metering_holds_stale"), found("metering_budgets_exhausted")) == (0, 1)

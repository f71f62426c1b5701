"""`GET /v1/streams`: what is in progress, and what it costs so far."""

from typing import Any

import pytest

from metering.access.scopes import Role
from tests.builders.posted import delivered, end, event, start, stream
from tests.running_api import Api


def listed(api: Api, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.client.get("/v1/streams", params=params).raise_for_status().json()["data"]
    return found


def test_an_open_stream_is_listed_with_what_it_costs_so_far(api: Api) -> None:
    api.post([start("s", api_key_id="k1"), delivered("s", tokens=20)])
    (found,) = listed(api)
    assert {
        name: found[name] for name in ("customer_id", "stream_id", "state", "provider", "model", "api_key_id")
    } == {
        "customer_id": "acme",
        "stream_id": "s",
        "state": "open",
        "provider": "anthropic",
        "model": "claude-opus-4.7",
        "api_key_id": "k1",
    }
    assert found["usage"] == {"input_tokens": 812, "output_tokens": 20}
    assert found["accrued_usd_cents"] == "0.456"
    assert found["first_received_at"] > found["started_at"]


def test_a_stream_that_is_final_or_needs_attention_is_not_in_progress(api: Api) -> None:
    api.post([*stream("final"), *stream("unpriced", provider="house", model="own-1"), start("open")])
    api.post([start("ended"), end("ended")])
    assert {each["stream_id"] for each in listed(api)} == {"final", "unpriced", "open", "ended"}
    api.finalize()
    assert [(each["stream_id"], each["state"]) for each in listed(api)] == [("open", "open")]


def test_what_cannot_be_priced_has_no_amount(api: Api) -> None:
    api.post([start("house", provider="house", model="own-1"), delivered("house"), delivered("late")])
    found = {each["stream_id"]: each for each in listed(api)}
    assert {each["accrued_usd_cents"] for each in found.values()} == {None}
    assert (found["late"]["model"], found["late"]["started_at"]) == (None, None)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"customer_id": "bolt"}, ["b"]),
        ({"provider": "openai"}, ["o"]),
        ({"model": "claude-opus-4.7"}, ["a", "b"]),
        ({"api_key_id": "k1"}, ["a"]),
    ],
)
def test_it_is_filtered_by_what_the_start_says(api: Api, filters: dict[str, str], expected: list[str]) -> None:
    other = {"stream_id": "b", "provider": "anthropic", "model": "claude-opus-4.7"}
    api.post([start("a", api_key_id="k1"), event("stream-start", other, subject="bolt")])
    api.post([start("o", provider="openai", model="gpt-5.5")])
    assert [each["stream_id"] for each in listed(api, **filters)] == expected


def test_pages_have_each_stream_once_while_their_events_go_on(api: Api) -> None:
    names = [f"s-{number}" for number in range(7)]
    for name in names:
        api.post([start(name)])
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.client.get("/v1/streams", params={"limit": 3, **cursor}).json()
        seen += [each["stream_id"] for each in page["data"]]
        if page["next_cursor"] is None:
            break
        api.post([delivered(name, tokens=len(seen), seq=len(seen)) for name in names])
        cursor = {"cursor": page["next_cursor"]}
    assert seen == names


def test_a_bound_key_sees_its_customers_streams_only(api: Api) -> None:
    other = {"stream_id": "b", "provider": "anthropic", "model": "claude-opus-4.7"}
    api.post([start("a"), event("stream-start", other, subject="bolt")])
    bound = api.client_with(Role.READ, customer_id="acme")
    assert [each["stream_id"] for each in bound.get("/v1/streams").json()["data"]] == ["a"]
    assert bound.get("/v1/streams", params={"customer_id": "bolt"}).status_code == 403

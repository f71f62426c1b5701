"""A stream of the backlog is examined before it is decided: both facts, both costs, what each decision books."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metering.access.scopes import Role
from metering.prices.rate_text import parse_rate
from metering.prices.set_rate import set_rate
from tests.builders.posted import STARTED, event, stream
from tests.running_api import Api

REASON = {"reason": "agreed with the customer"}


def fill(api: Api) -> None:
    """A stream with two starts of different models, and one with two ends."""
    begun = stream("two-starts")
    other = stream("two-starts", model="claude-opus-4.6", time="2026-11-23T15:00:01Z")[0]
    api.post([*begun, {**other, "source": "/gateways/eu-2"}])
    first, end = stream("two-ends")
    more = {**end["data"], "usage": {"input_tokens": 812, "output_tokens": 1037}}
    later = event("stream-end", more, time="2026-11-23T16:00:00Z", id="again")
    api.post([first, end])
    api.post([later])
    api.post([later])
    api.finalize()


def examined(api: Api, stream_id: str) -> dict[str, Any]:
    answer = api.client.get(f"/v1/backlog/acme/{stream_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def resolve(api: Api, stream_id: str, action: str, version: str | None = None) -> Any:
    body = {"action": action, **REASON, **({"version": version} if version else {})}
    return api.client.post(f"/v1/streams/acme/{stream_id}/resolution", json=body)


def test_both_starts_are_there_with_where_and_when_they_came_from(api: Api) -> None:
    fill(api)
    found = examined(api, "two-starts")
    models = [each["start"]["data"]["model"] for each in found["candidates"]]
    assert models == ["claude-opus-4.7", "claude-opus-4.6"]
    assert [each["wins"] for each in found["candidates"]] == [True, False]
    assert [each["start"]["source"] for each in found["candidates"]] == ["/gateways/test", "/gateways/eu-2"]
    assert all(each["start"]["received_at"] and each["start"]["ingest_key_id"] for each in found["candidates"])
    assert found["complete"]


def test_each_end_costs_what_it_would_be_billed_for(api: Api) -> None:
    fill(api)
    found = examined(api, "two-ends")
    assert [each["cost_usd_cents"] for each in found["candidates"]] == ["0.4985", "2.9985"]
    assert [each["end"]["times_received"] for each in found["candidates"]] == [1, 2]
    remedies = {each["action"]: each["usd_cents"] for each in found["remedies"]}
    assert remedies == {"bill_as_is": "0.4985", "write_off": "0"}
    assert found["would_cost_usd_cents"] == "0.4985"
    assert resolve(api, "two-ends", "bill_as_is", found["version"]).status_code == 200
    api.finalize()
    assert api.client.get("/v1/streams/acme/two-ends").json()["cost_usd_cents"] == remedies["bill_as_is"]


def test_an_end_that_is_overruled_is_no_candidate(api: Api) -> None:
    fill(api)
    end = stream("two-ends")[1]
    guess = {**end["data"], "usage_source": "estimate", "usage": {"input_tokens": 1, "output_tokens": 1}}
    api.post([event("stream-end", guess, time=STARTED, id="guess")])
    assert len(examined(api, "two-ends")["candidates"]) == 2


def test_a_cancel_policy_counts(api: Api) -> None:
    start, _ = stream("cut", model="claude-opus-4.7")
    end = {"stream_id": "cut", "outcome": "cancelled", "usage": {"input_tokens": 9, "output_tokens": 9}}
    more = {**end, "usage": {"input_tokens": 9, "output_tokens": 10}}
    body = {"policy": "zero", "effective_from": "2026-01-01T00:00:00Z"}
    assert api.client.put("/v1/cancel-policies/anthropic", json=body).is_success
    api.post([start, event("stream-end", end), event("stream-end", more, id="more")])
    api.finalize()
    found = examined(api, "cut")
    assert [each["cost_usd_cents"] for each in found["candidates"]] == ["0", "0"]
    assert {each["cancel_policy"] for each in found["candidates"]} == {"zero"}


def test_a_decision_is_refused_when_an_event_has_arrived_since_and_says_so(api: Api) -> None:
    fill(api)
    seen = examined(api, "two-ends")["version"]
    end = stream("two-ends")[1]
    earlier = {**end["data"], "usage": {"input_tokens": 812, "output_tokens": 5}}
    api.post([event("stream-end", earlier, time=STARTED, id="third")])
    api.finalize()
    refused = resolve(api, "two-ends", "bill_as_is", seen)
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/stream-changed")
    assert "another stream-end has arrived" in refused.json()["detail"]
    assert "it would have cost $0.004985, and now costs $0.004185" in refused.json()["detail"]
    assert resolve(api, "two-ends", "bill_as_is", examined(api, "two-ends")["version"]).status_code == 200


def test_a_decision_is_refused_when_the_price_has_changed_since(api: Api) -> None:
    fill(api)
    seen = examined(api, "two-ends")["version"]
    rates = [parse_rate("input=50"), parse_rate("output=250")]
    at = api.client.get("/v1/streams/acme/two-ends").json()["started_at"]
    body = {
        "effective_from": at,
        "rates": [{"kind": each.kind, "usd_per_million": str(each.usd)} for each in rates],
    }
    assert api.client.put("/v1/rates/anthropic/claude-opus-4.7", json=body).is_success
    refused = resolve(api, "two-ends", "bill_as_is", seen)
    assert refused.status_code == 409
    assert "it would have cost $0.004985, and now costs $0.04985" in refused.json()["detail"]


@pytest.mark.parametrize("version", ["x", "p.a", "p." + "9" * 200])
def test_a_version_of_something_else_is_refused(api: Api, version: str) -> None:
    fill(api)
    assert resolve(api, "two-ends", "bill_as_is", version).status_code == 409


def test_an_unknown_price_is_null_and_bounded_by_the_highest_that_the_model_had(api: Api) -> None:
    api.post([*stream("early", provider="house", model="own-1"), *stream("none", provider="house", model="own-2")])
    api.finalize()
    for usd in ("2", "3"):
        set_rate(
            engine=api.service.engine,
            provider="house",
            model="own-1",
            effective_from=_later(int(usd)),
            rates=[parse_rate(f"input={usd}"), parse_rate(f"output={usd}")],
            set_by="test",
            now=_later(int(usd)),
        )
    items = {each["stream_id"]: each for each in api.client.get("/v1/backlog").json()["data"]}
    assert items["early"]["would_cost_usd_cents"] is None
    assert items["early"]["at_most_usd_cents"] == "0.2547"
    assert items["none"]["at_most_usd_cents"] is None
    found = examined(api, "early")["candidates"][0]
    assert (found["cost_usd_cents"], found["at_most_usd_cents"]) == (None, "0.2547")
    assert "no rate for house/own-1" in found["problem"]


def _later(days: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def test_what_is_not_in_the_backlog_is_not_found_and_others_are_not_seen(api: Api) -> None:
    fill(api)
    api.post(stream("well"))
    api.finalize()
    assert api.client.get("/v1/backlog/acme/well").status_code == 404
    with api.client_with(Role.READ, "bolt") as bound:
        assert bound.get("/v1/backlog/acme/two-ends").status_code in (403, 404)

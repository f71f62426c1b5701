"""What looks like a sender's mistake is told in the answer or waits for a person, and is not billed in silence."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metering.audit.receipt_document import verify_document
from metering.audit.run import audit
from tests.builders.posted import stream
from tests.running_api import Api, bill, put


def ended(stream_id: str, usage: dict[str, Any] | None, **changes: Any) -> list[dict[str, Any]]:
    """A stream with this usage at its end, and no input at its start."""
    begun, end = stream(stream_id, **changes)
    begun["data"].pop("input_tokens", None)
    end["data"].pop("usage", None)
    if usage is not None:
        end["data"]["usage"] = usage
    return [begun, end]


@pytest.mark.parametrize(
    ("usage", "meant"),
    [
        ({"prompt_tokens": 3000, "completion_tokens": 4000}, ["input_tokens", "output_tokens"]),
        ({"inputTokens": 3, "outputTokens": 4}, ["input_tokens", "output_tokens"]),
        ({"promptTokenCount": 3, "candidatesTokenCount": 4}, ["input_tokens", "output_tokens"]),
        ({"input_token": 3}, ["input_tokens"]),
        ({"input_tokens": None, "prompt_tokens": 3}, ["input_tokens"]),
        ({"cache_creation_input_tokens": 3}, ["cache_write_input_tokens"]),
        ({"total": 7000}, []),
    ],
)
def test_usage_without_a_known_counter_is_refused_and_the_counter_that_is_meant_is_named(
    api: Api, usage: dict[str, Any], meant: list[str]
) -> None:
    answer = api.post(ended("s", usage)).json()
    (rejected,) = answer["rejected"]
    assert (answer["accepted"], rejected["index"], rejected["code"]) == (1, 1, "unknown-usage")
    assert rejected["detail"].startswith("data.usage: no counter is known")
    assert all(name in rejected["detail"] for name in meant)


def test_unknown_fields_are_told_of_a_hundred_at_most(api: Api) -> None:
    usage = {"input_tokens": 1, "output_tokens": 2, "completion_tokens_details": {}, "custom": 1}
    many = [each for place in range(80) for each in ended(f"s{place}", usage)]
    answer = api.post(many).json()
    assert (answer["accepted"], answer["rejected"], len(answer["warnings"])) == (160, [], 100)
    assert answer["warnings"][0] == {
        "index": 1,
        "id": "s0:stream-end:",
        "field": "data.usage.completion_tokens_details",
        "hint": "send it as reasoning_output_tokens",
    }
    assert "warnings" not in api.post(ended("well", {"input_tokens": 1})).json()


def test_every_counter_comes_back_on_the_stream_its_charge_its_receipt_and_in_totals(api: Api) -> None:
    usage = {
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read_input_tokens": 30,
        "cache_write_input_tokens": 20,
        "cache_write_1h_input_tokens": 5,
        "input_image_tokens": 6,
        "citation_output_tokens": 7,
        "audio_seconds": "12.5",
    }
    seen = bill(api, ended("s", {**usage, "upstream_cost_usd": "0.00125"}))
    assert seen["usage"] == usage
    assert (seen["upstream_usd_cents"], seen["flags"]) == ("0.125", ["parent_rate"])
    (total,) = api.client.get(
        "/v1/totals", params={"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    ).json()["data"]
    assert {name: total[name] for name in usage} == usage
    assert (total["upstream_usd_cents"], "web_searches" in total) == ("0.125", False)
    receipt = api.client.get("/v1/streams/acme/s/receipt")
    assert [check.fault for check in verify_document(receipt.content)] == [None] * 6
    text = api.client.get("/v1/streams/acme/s/receipt", headers={"accept": "text/plain"}).text
    assert "Flags    parent_rate" in text
    assert "the upstream says" in text
    forged = json.loads(receipt.content)
    forged["bill"]["flags"] = []
    assert any(check.fault for check in verify_document(json.dumps(forged).encode()))


def test_counters_that_contradict_each_other_are_read_and_the_receipt_says_how(api: Api) -> None:
    seen = bill(api, ended("s", {"input_tokens": 100, "output_tokens": 20, "reasoning_output_tokens": 50}))
    assert (seen["usage"]["output_tokens"], seen["flags"]) == (70, ["inconsistent_usage"])
    assert seen["usage_faults"] == [
        "reasoning_output_tokens 50 exceeds output_tokens 20: read as output_tokens 70"
    ]
    text = api.client.get("/v1/streams/acme/s/receipt", headers={"accept": "text/plain"}).text
    assert "Reading  reasoning_output_tokens 50 exceeds output_tokens 20" in text


def test_a_completed_stream_of_which_nothing_is_known_waits_until_its_usage_comes(api: Api) -> None:
    unknown = ended("s", None)
    unknown[1]["data"].pop("usage_source")
    shape = bill(api, unknown)
    assert (shape["state"], shape["cost_usd_cents"]) == ("unmeasured", None)
    (item,) = api.client.get("/v1/backlog", params={"state": "unmeasured"}).json()["data"]
    assert item["actions"] == ["write_off"]
    later = ended("s", {"input_tokens": 812, "output_tokens": 37})
    assert bill(api, later)["cost_usd_cents"] == "0.4985"


@pytest.mark.parametrize("year", [1970, 2019, 2031, 9000])
def test_a_stream_with_an_impossible_time_waits_and_can_be_billed_by_its_receipt(api: Api, year: int) -> None:
    shape = bill(api, stream("s", time=f"{year}-06-01T12:00:00Z"))
    assert (shape["state"], shape["cost_usd_cents"]) == ("misdated", None)
    assert f"dated {year}-06-01T12:00:00" in shape["state_reason"]
    assert str(shape["ended_at"])[:4] == str(datetime.now(UTC).year)
    (item,) = api.client.get("/v1/backlog").json()["data"]
    assert item["actions"] == ["bill_as_received", "write_off"]
    api.client.post(
        "/v1/streams/acme/s/resolution", json={"action": "bill_as_received", "reason": "its clock was wrong"}
    )
    api.finalize()
    seen = api.client.get("/v1/streams/acme/s").json()
    assert (seen["state"], seen["cost_usd_cents"], seen["flags"]) == ("finalized", "0.4985", ["clock_skew"])
    assert seen["charge"]["period"] == f"{datetime.now(UTC):%Y-%m}"
    receipt = api.client.get("/v1/streams/acme/s/receipt").content
    assert [check.fault for check in verify_document(receipt)] == [None] * 6
    assert audit(engine=api.service.engine, now=datetime.now(UTC)).differences == []


def test_a_right_time_that_comes_later_settles_a_misdated_stream(api: Api) -> None:
    assert bill(api, stream("s", time="2031-06-01T12:00:00Z"))["state"] == "misdated"
    assert bill(api, stream("s"))["state"] == "finalized"


def test_a_clock_that_is_ahead_is_flagged_with_by_how_much(api: Api) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=2)
    seen = bill(api, stream("s", time=ahead.isoformat()))
    assert (seen["state"], seen["flags"]) == ("finalized", ["clock_skew"])
    assert 7_100 < seen["clock_ahead_seconds"] <= 7_204


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-10-31T23:59:59.9999999Z", "2026-10-31T23:59:59.999999Z"),
        ("2026-10-31T23:59:59.123456789123Z", "2026-10-31T23:59:59.123456Z"),
        ("2026-10-31T23:59:60Z", "2026-10-31T23:59:59.999999Z"),
        ("2026-11-01T05:29:59.9999999+05:30", "2026-10-31T23:59:59.999999Z"),
    ],
)
@pytest.mark.parametrize("tag", ["time", "other"])
def test_times_are_cut_off_after_microseconds_never_rounded_into_another_month(
    api: Api, sent: str, kept: str, tag: str
) -> None:
    begun, end = stream("s", tags={tag: sent}, time="2026-10-31T23:00:00Z")
    end["time"] = sent
    api.post([begun, {**end, "data": {**end["data"], "outcome": "completed"}}])
    api.finalize()
    seen = api.client.get("/v1/streams/acme/s").json()
    assert seen["ended_at"] == kept
    assert seen["tags"] == {tag: sent}


@pytest.mark.parametrize("name", [".", ".."])
def test_ids_that_no_url_can_name_are_refused(api: Api, name: str) -> None:
    for wrong, field in (({**stream("s")[0], "subject": name}, "subject"), (stream(name)[0], "data.stream_id")):
        answer = api.post([wrong])
        assert answer.status_code == 422
        assert answer.json()["rejected"][0]["detail"].startswith(f'{field}: expected an id other than "."')


def test_the_upstreams_cost_prices_a_model_without_a_rate_once_it_is_accepted(api: Api) -> None:
    usage = {"input_tokens": 9, "output_tokens": 5, "upstream_cost_usd": "0.00042"}
    shape = bill(api, ended("s", usage, provider="openrouter", model="nobody/knows-1"))
    assert shape["state"] == "unpriced"
    since = {"effective_from": "2026-11-01T00:00:00Z"}
    assert put(api, "/v1/upstream-prices/OpenRouter", accepted=True, **since)["provider"] == "openrouter"
    api.finalize()
    seen = api.client.get("/v1/streams/acme/s").json()
    assert (seen["cost_usd_cents"], seen["price_source"]) == ("0.042", "upstream")
    assert seen["charge"]["lines"] == [
        {"kind": "upstream_cost", "quantity": 1, "usd_per_million": "420", "usd_cents": "0.042"}
    ]
    receipt = api.client.get("/v1/streams/acme/s/receipt").content
    assert [check.fault for check in verify_document(receipt)] == [None] * 6
    (listed,) = api.client.get("/v1/upstream-prices").json()["data"]
    assert (listed["provider"], listed["accepted"]) == ("openrouter", True)
    again = api.client.put("/v1/upstream-prices/openrouter", json={"accepted": False, **since})
    assert again.status_code == 409


def test_another_provider_that_answered_is_priced_and_shown(api: Api) -> None:
    begun, end = stream("s")
    end["data"] |= {"response_provider": "openai", "response_model": "gpt-4o"}
    seen = bill(api, [begun, end])
    assert (seen["provider"], seen["response_provider"], seen["charge"]["rated_model"]) == (
        "anthropic",
        "openai",
        "gpt-4o",
    )


def test_the_tier_of_the_usage_goes_before_that_of_the_answer_and_of_the_request(api: Api) -> None:
    begun, end = stream("s", service_tier="priority")
    end["data"]["service_tier"] = "standard"
    end["data"]["usage"]["service_tier"] = "batch"
    assert bill(api, [begun, end])["cost_usd_cents"] == "0.24925"


def test_time_is_priced_per_hour_and_a_price_in_another_unit_is_refused(api: Api) -> None:
    path = "/v1/rates/house/ears-1"
    wrong = api.client.put(path, json={"rates": [{"kind": "audio_seconds", "usd_per_million": "1"}]})
    assert wrong.status_code == 422
    assert "audio_seconds is priced per hour: send usd_per_hour" in wrong.text
    card = put(
        api,
        path,
        rates=[{"kind": "audio_seconds", "usd_per_hour": "0.36"}],
        effective_from="2026-11-01T00:00:00Z",
    )
    assert card["rates"] == [
        {"kind": "audio_seconds", "usd_per_million": None, "above_input_tokens": 0, "usd_per_hour": "0.36"}
    ]
    seen = bill(api, ended("s", {"audio_seconds": "100.1"}, provider="house", model="ears-1"))
    assert seen["charge"]["lines"] == [
        {
            "kind": "audio_seconds",
            "quantity": "100.1",
            "usd_per_million": None,
            "usd_cents": "1.001",
            "usd_per_hour": "0.36",
        }
    ]
    odd = bill(api, ended("odd", {"audio_seconds": "0.007", "output_tokens": 3}, provider="house", model="ears-1"))
    assert odd["cost_usd_cents"] == "0.00007"
    assert audit(engine=api.service.engine, now=datetime.now(UTC)).differences == []

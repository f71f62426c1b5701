"""The price book over HTTP: what is set takes effect from its date on, for whom it is meant."""

from typing import Any

import pytest

from metering.access.scopes import Role
from tests.builders.posted import STARTED, event, rates, stream
from tests.running_api import Api, bill, put


def windowed(*windows: dict[str, Any]) -> list[dict[str, Any]]:
    """Rates for input and output, and one for input in each window."""
    return [
        {"kind": "input", "usd_per_million": "1"},
        {"kind": "output", "usd_per_million": "8"},
        *(
            {"kind": "input", "usd_per_million": str(place + 2), "daily": each}
            for place, each in enumerate(windows)
        ),
    ]


def test_a_charge_names_its_rate_card_and_the_rule_that_matched_the_model(api: Api) -> None:
    charge = bill(api, stream("s1", model="anthropic/claude-opus-4.7"))["charge"]
    assert charge["rated_model"] == "claude-opus-4-7"
    assert charge["model_rule"] == "anthropic/claude-opus-4.7 starts_with claude-opus-4.7"
    assert charge["markup_percent"] == "0"
    known = {card["rate_card_id"] for card in api.client.get("/v1/rates?model=claude-opus-4-7").json()["data"]}
    assert charge["rate_card_id"] in known


def test_a_customers_own_card_prices_its_streams_only_from_its_date_until_it_is_ended(api: Api) -> None:
    path = "/v1/rates/anthropic/claude-opus-4-7"
    put(api, path, rates=rates("1"), customer_id="acme", effective_from="2026-11-23T15:00:00Z")
    put(api, path, rates=[], customer_id="acme", effective_from="2026-11-23T16:00:00Z")
    assert bill(api, stream("own"))["cost_usd_cents"] == "0.0849"
    assert bill(api, stream("before", time="2026-11-23T14:59:59Z"))["cost_usd_cents"] == "0.4985"
    assert bill(api, stream("ended", time="2026-11-23T16:00:00Z"))["cost_usd_cents"] == "0.4985"
    assert bill(api, stream("other", customer="bolt"))["cost_usd_cents"] == "0.4985"


def test_a_markup_is_in_each_line_and_on_everybodys_rates_only(api: Api) -> None:
    put(api, "/v1/markups/acme", percent="20", effective_from="2026-11-23T00:00:00Z")
    marked_up = bill(api, stream("s1"))
    assert marked_up["cost_usd_cents"] == "0.5982"
    assert marked_up["charge"]["markup_percent"] == "20"
    assert [line["usd_per_million"] for line in marked_up["charge"]["lines"]] == ["6", "30"]
    put(
        api,
        "/v1/rates/anthropic/claude-opus-4-7",
        rates=rates("1"),
        customer_id="acme",
        effective_from="2026-11-23T00:00:00Z",
    )
    assert bill(api, stream("s2"))["cost_usd_cents"] == "0.0849"
    assert bill(api, stream("s3", customer="bolt"))["cost_usd_cents"] == "0.4985"
    listed = api.client.get("/v1/markups/acme").json()["data"]
    assert [markup["percent"] for markup in listed] == ["20"]


def test_a_service_tier_that_the_upstream_reports_goes_before_the_one_that_was_asked_for(api: Api) -> None:
    asked = bill(api, stream("asked", service_tier="batch"))
    assert (asked["cost_usd_cents"], asked["service_tier"]) == ("0.24925", "batch")
    events = stream("got", service_tier="batch")
    events[1]["data"]["service_tier"] = "standard"
    assert bill(api, events)["cost_usd_cents"] == "0.4985"


@pytest.mark.parametrize(
    ("policy", "outcome", "cost"),
    [
        ("zero", "cancelled", "0"),
        ("zero", "failed", "0"),
        ("zero", "timed_out", "0"),
        ("zero", "completed", "0.4985"),
        ("drain", "cancelled", "0.4985"),
        ("delivered", "cancelled", "0.4985"),
    ],
)
def test_a_cancel_policy_decides_what_a_stream_that_did_not_complete_costs(
    api: Api, policy: str, outcome: str, cost: str
) -> None:
    put(api, "/v1/cancel-policies/anthropic", policy="delivered", effective_from="2026-11-01T00:00:00Z")
    put(api, "/v1/cancel-policies/Anthropic", policy=policy, effective_from="2026-11-23T15:00:00Z")
    before = bill(api, stream("before", time="2026-11-23T14:59:59Z", outcome=outcome))
    assert (before["cost_usd_cents"], before["cancel_policy_version"]) == ("0.4985", 1)
    after = bill(api, stream("after", outcome=outcome))
    assert (after["cost_usd_cents"], after["cancel_policy"], after["cancel_policy_version"]) == (cost, policy, 2)
    assert after["usage"] == {"input_tokens": 812, "output_tokens": 37}


def test_a_stream_that_costs_nothing_by_policy_needs_no_rate(api: Api) -> None:
    put(api, "/v1/cancel-policies/house", policy="zero", effective_from="2026-11-01T00:00:00Z")
    waived = bill(api, stream("s1", provider="house", model="own-1", outcome="cancelled"))
    assert (waived["state"], waived["cost_usd_cents"]) == ("finalized", "0")


def test_an_open_stream_accrues_as_if_it_completed_under_any_policy(api: Api) -> None:
    put(api, "/v1/cancel-policies/anthropic", policy="zero", effective_from="2026-11-01T00:00:00Z")
    start = stream("s1", input_tokens=812)[0]
    counted = {"stream_id": "s1", "seq": 1, "output_tokens": 37}
    shape = bill(api, [start, event("token-delivered", counted, time=STARTED)])
    assert (shape["state"], shape["accrued_usd_cents"]) == ("open", "0.4985")


def test_what_is_booked_keeps_its_price_when_later_facts_adjust_it(api: Api) -> None:
    first = bill(api, stream("s1", outcome="cancelled"))
    put(api, "/v1/markups/acme", percent="50", effective_from="2026-11-01T00:00:00Z")
    put(api, "/v1/cancel-policies/anthropic", policy="zero", effective_from="2026-11-01T00:00:00Z")
    put(api, "/v1/rates/anthropic/claude-opus-4-7", rates=rates("9"), effective_from="2026-11-20T00:00:00Z")
    late = stream("s1", outcome="cancelled")[1]
    late["time"] = "2026-11-23T15:00:01Z"
    again = bill(api, [stream("s1")[0], late])
    assert again["cost_usd_cents"] == first["cost_usd_cents"] == "0.4985"


def test_a_second_change_for_the_same_moment_is_refused(api: Api) -> None:
    for path, body in (
        ("/v1/cancel-policies/openai", {"policy": "zero"}),
        ("/v1/markups/acme", {"percent": "1"}),
        ("/v1/rates/openai/gpt-5", {"rates": rates("1"), "customer_id": "acme"}),
    ):
        given = {**body, "effective_from": "2026-11-01T00:00:00Z"}
        assert api.client.put(path, json=given).status_code == 200
        refused = api.client.put(path, json=given)
        assert refused.status_code == 409
        assert "effective_from" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/cancel-policies/openai", {"policy": "half"}, "policy"),
        ("/v1/markups/acme", {"percent": "-101"}, "percent"),
        ("/v1/markups/acme", {"percent": "NaN"}, "percent"),
        ("/v1/markups/acme", {"percent": "1", "effective_from": "2026-11-01T00:00:00"}, "effective_from"),
        ("/v1/rates/a/b", {"rates": []}, "rates"),
        ("/v1/rates/a/b", {"rates": [*rates("1"), *rates("1")]}, "rates"),
        (
            "/v1/rates/a/b",
            {"rates": [{"kind": "input", "usd_per_million": "1", "daily": {"start": "01:00", "end": "01:00"}}]},
            "daily",
        ),
        ("/v1/rates/a/b", {"rates": windowed({"start": "01:00", "end": "02:00", "weekdays": []})}, "weekdays"),
        (
            "/v1/rates/a/b",
            {"rates": windowed({"start": "01:00", "end": "02:00", "weekdays": ["fry"]})},
            "weekdays",
        ),
        (
            "/v1/rates/a/b",
            {"rates": windowed({"start": "09:00", "end": "17:00"}, {"start": "16:00", "end": "18:00"})},
            "overlap",
        ),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_with_its_field(
    shared_api: Api, path: str, body: dict[str, Any], field: str
) -> None:
    answer = shared_api.client.put(path, json=body)
    assert answer.status_code == 422
    assert field in answer.text


def test_a_reader_bound_to_a_customer_sees_no_other_customers_prices_and_changes_none(api: Api) -> None:
    for customer in ("acme", "bolt"):
        put(api, "/v1/rates/openai/gpt-5", rates=rates("1"), customer_id=customer)
        put(api, f"/v1/markups/{customer}", percent="5")
    with api.client_with(Role.READ, "acme") as bound:
        owners = {card["customer_id"] for card in bound.get("/v1/rates?provider=openai&limit=1000").json()["data"]}
        assert owners == {None, "acme"}
        assert bound.get("/v1/markups/bolt").status_code == 403
        assert bound.get("/v1/markups/acme").json()["data"][0]["percent"] == "5"
        assert bound.put("/v1/markups/acme", json={"percent": "-100"}).status_code == 403
        assert bound.put("/v1/cancel-policies/openai", json={"policy": "zero"}).status_code == 403
        assert bound.put("/v1/rates/openai/gpt-5", json={"rates": rates("0")}).status_code == 403


def test_a_rate_on_days_of_the_week_reads_back_and_bills_on_these_days_only(api: Api) -> None:
    workdays = {"start": "14:00:00", "end": "17:00:00", "weekdays": ["mon", "tue", "wed", "thu", "fri"]}
    weekend = {"start": "00:00:00", "end": "00:00:00", "weekdays": ["sat", "sun"]}
    given = [*windowed(workdays), {"kind": "input", "usd_per_million": "0", "daily": weekend}]
    card = put(api, "/v1/rates/house/own-1", rates=given, effective_from="2026-11-01T00:00:00Z")
    assert [rate.get("daily") for rate in card["rates"]] == [None, None, weekend, workdays]
    assert api.client.get("/v1/rates?provider=house").json()["data"] == [card]
    days = (20, 21, 22, 23)  # Friday to Monday
    streams = [stream(f"s{day}", provider="house", model="own-1", time=f"2026-11-{day}T15:00:00Z") for day in days]
    assert [bill(api, each)["cost_usd_cents"] for each in streams] == ["0.192", "0.0296", "0.0296", "0.192"]


@pytest.mark.parametrize(
    ("provider", "model", "at", "usage", "cents"),
    [
        ("deepseek", "deepseek-flash", "2026-11-13T02:00:00Z", (36_100, 1_200, 21_600, 0), "0.59196"),
        ("deepseek", "deepseek-flash", "2026-11-14T02:00:00Z", (36_100, 1_200, 21_600, 0), "0.29598"),
        ("deepseek", "deepseek-v4-flash", "2026-08-16T20:00:00Z", (1_000_000, 0, 0, 0), "22"),
        ("openai", "gpt-4o-audio-preview", STARTED, (17, 592, 0, 482), "3.97025"),
        ("openai", " gpt-4o ", STARTED, (12_345, 678, 0, 0), "3.76425"),
        ("google", "models/gemini-2.5-pro", STARTED, (12_345, 678, 0, 0), "2.221125"),
    ],
)
def test_a_stream_costs_what_the_vendor_publishes(
    api: Api, provider: str, model: str, at: str, usage: tuple[int, ...], cents: str
) -> None:
    counters = ("input_tokens", "output_tokens", "cache_read_input_tokens", "output_audio_tokens")
    events = stream("s", provider=provider, model=model, time=at)
    events[1]["data"]["usage"] = dict(zip(counters, usage, strict=True))
    assert bill(api, events)["cost_usd_cents"] == cents


def test_rates_by_time_of_day_and_tier_read_back_as_they_were_set(api: Api) -> None:
    given = [
        {"kind": "input", "usd_per_million": "4", "above_input_tokens": 0},
        {"kind": "output", "usd_per_million": "8", "above_input_tokens": 0},
        {
            "kind": "input",
            "usd_per_million": "1",
            "above_input_tokens": 0,
            "daily": {"start": "15:00:00", "end": "02:00:00"},
        },
        {"kind": "output", "usd_per_million": "6", "above_input_tokens": 0, "service_tier": "flex"},
    ]
    put(api, "/v1/rates/house/own-1", rates=given, effective_from="2026-11-01T00:00:00Z")
    (card,) = api.client.get("/v1/rates?provider=house").json()["data"]
    assert sorted(map(str, card["rates"])) == sorted(map(str, given))
    assert bill(api, stream("s1", provider="house", model="own-1"))["cost_usd_cents"] == "0.1108"
    assert (
        bill(api, stream("s2", provider="house", model="own-1", service_tier="FLEX"))["cost_usd_cents"] == "0.1034"
    )


def test_a_gateways_key_reads_the_cancel_policies_and_no_more(api: Api) -> None:
    gateway = api.client_with(Role.INGEST)
    assert gateway.get("/v1/cancel-policies").status_code == 200
    assert gateway.get("/v1/rates").status_code == 403
    assert gateway.put("/v1/cancel-policies/openai", json={"policy": "zero"}).status_code == 403

"""The reading calls: shapes of the contract, exact totals over any range, pages, keys that see only their own."""

from decimal import Decimal
from typing import Any

import pytest

from metering.access.scopes import Role
from tests.builders.posted import delivered, end, start
from tests.running_api import Api, put

MONTH = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}


def totals(api: Api, **parameters: Any) -> list[dict[str, Any]]:
    answer = api.client.get("/v1/totals", params={**MONTH, **parameters})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def test_a_stream_accrues_while_open_and_is_final_after(api: Api) -> None:
    api.post([start(), delivered()])
    before = api.client.get("/v1/streams/acme/s").json()
    assert (before["state"], before["cost_usd_cents"], before["accrued_usd_cents"]) == ("open", None, "0.456")
    api.post([end()])
    api.finalize()
    after = api.client.get("/v1/streams/acme/s").json()
    assert after["state"] == "finalized"
    assert after["outcome"] == "cancelled"
    assert (after["cost_usd_cents"], after["accrued_usd_cents"]) == ("0.4985", None)
    assert (after["started_at"], after["ended_at"]) == ("2026-11-23T15:00:00.123Z", "2026-11-23T15:00:04.500Z")
    assert after["usage"] == {"input_tokens": 812, "output_tokens": 37}
    assert (after["usage_source"], after["cancel_policy"]) == ("gateway_count", "delivered")
    assert after["charge"]["period"] == "2026-11"
    assert after["charge"]["lines"] == [
        {"kind": "input", "quantity": 812, "usd_per_million": "5", "usd_cents": "0.406"},
        {"kind": "output", "quantity": 37, "usd_per_million": "25", "usd_cents": "0.0925"},
    ]


@pytest.mark.parametrize("stream_id", ["a/b", "a b%2F?#", "ключ", "...", "'; DROP TABLE streams; --"])
def test_any_stream_id_can_be_read_back(api: Api, stream_id: str) -> None:
    api.post([start(stream_id)])
    path = "/v1/streams/acme/" + "".join(f"%{byte:02X}" for byte in stream_id.encode())
    assert api.client.get(path).json()["stream_id"] == stream_id


def test_a_slash_in_a_customer_id_does_not_end_it(api: Api) -> None:
    api.post([{**start("x/y"), "subject": "acme/eu"}])
    assert api.client.get("/v1/streams/acme%2Feu/x%2Fy").json()["customer_id"] == "acme/eu"
    assert api.client.get("/v1/streams/acme%2Feu/x/y").json()["stream_id"] == "x/y"
    assert api.client.get("/v1/streams/acme/eu/x/y").status_code == 404
    assert api.client.put("/v1/customers/acme%2Feu", json={"name": "EU"}).json()["customer_id"] == "acme/eu"


def test_what_is_not_there_is_a_404_with_its_name(api: Api) -> None:
    answer = api.client.get("/v1/streams/acme/none")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "customer 'acme' has no stream 'none'"


def test_totals_show_final_and_accrued_side_by_side(api: Api) -> None:
    api.post([start("done"), end("done"), start("open"), delivered("open")])
    api.post([{**start("other"), "subject": "bolt"}, {**end("other"), "subject": "bolt"}])
    api.finalize()
    rows = totals(api, group_by="customer_id,model", granularity="day")
    assert [(row["customer_id"], row["cost_usd_cents"], row["accrued_usd_cents"]) for row in rows] == [
        ("acme", "0.4985", "0.456"),
        ("bolt", "0.4985", "0"),
    ]
    assert {row["start"] for row in rows} == {"2026-11-23T00:00:00Z"}
    assert rows[0]["stream_count"] == 1
    assert rows[0]["input_tokens"] == 812
    (all_of_it,) = totals(api)
    assert "start" not in all_of_it
    assert (all_of_it["cost_usd_cents"], all_of_it["accrued_usd_cents"]) == ("0.997", "0.456")


@pytest.mark.parametrize("granularity", ["hour", "day", "month", "none"])
@pytest.mark.parametrize("group", ["customer_id", "provider", "model", "api_key_id", "outcome", "usage_source"])
def test_every_grouping_sums_to_the_same(api: Api, granularity: str, group: str) -> None:
    for place in range(3):
        ended_at = f"2026-11-{21 + place}T0{place}:59:59.999Z"
        api.post([start(f"s{place}", api_key_id=f"k{place}" if place else None), end(f"s{place}", time=ended_at)])
    api.finalize()
    rows = totals(api, group_by=group, granularity=granularity)
    assert sum(Decimal(row["cost_usd_cents"]) for row in rows) == Decimal("1.4955")
    assert sum(row["stream_count"] for row in rows) == 3


def test_totals_are_exact_over_ranges_that_cut_through_hours(api: Api) -> None:
    for minute in (10, 20, 30, 70, 130):
        name = f"s{minute}"
        ended_at = f"2026-11-23T{15 + minute // 60}:{minute % 60:02d}:00Z"
        api.post([start(name), end(name, time=ended_at)])
    api.finalize()
    adjusted = end("s20", output=137, time="2026-11-23T15:20:00Z")
    adjusted["data"]["usage_source"] = "provider"
    api.post([adjusted])
    api.finalize()

    def cost(from_: str, to: str) -> list[tuple[int, str]]:
        rows = totals(api, **{"from": f"2026-11-23T{from_}Z", "to": f"2026-11-23T{to}Z"})
        return [(row["stream_count"], row["cost_usd_cents"]) for row in rows]

    assert cost("15:10:00", "15:10:00.001") == [(1, "0.4985")]
    assert cost("15:10:00.001", "15:20:00") == []
    assert cost("15:20:00", "15:30:00") == [(1, "0.7485")]
    assert cost("15:15:00", "17:10:00.001") == [(4, "2.244")]
    assert cost("15:00:00", "17:10:00") == [(4, "2.244")]
    assert cost("15:00:00", "18:00:00") == [(5, "2.7425")]


def test_lists_are_paged_without_gaps_or_repeats(api: Api) -> None:
    for place in range(7):
        api.post([start(f"s{place}"), end(f"s{place}")])
    api.finalize()
    for path, parameters, key in (
        ("/v1/charges", {"limit": 3}, "stream_id"),
        ("/v1/totals", {**MONTH, "group_by": "api_key_id", "limit": 1}, "api_key_id"),
        ("/v1/rates", {"provider": "anthropic", "limit": 10}, "rate_card_id"),
    ):
        seen: list[str] = []
        cursor = None
        for _ in range(20):
            page = api.client.get(path, params={**parameters, **({"cursor": cursor} if cursor else {})}).json()
            seen += [row[key] for row in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert cursor is None
        assert len(seen) == len(set(seen))
        assert len(seen) == {"/v1/charges": 7, "/v1/totals": 1}.get(path, len(seen))
    assert len(seen) > 20


def test_charges_are_filtered_by_all_that_the_contract_names(api: Api) -> None:
    api.post([start("a", api_key_id="k1"), end("a"), start("b", model="claude-opus-4.6"), end("b")])
    api.finalize()

    def found(**parameters: str) -> list[str]:
        rows = api.client.get("/v1/charges", params=parameters).json()["data"]
        return sorted(row["stream_id"] for row in rows)

    assert found() == ["a", "b"]
    assert found(api_key_id="k1") == ["a"]
    assert found(model="claude-opus-4.6") == ["b"]
    assert found(outcome="cancelled") == ["a", "b"]
    assert found(outcome="completed") == []
    assert found(usage_source="provider") == []
    assert found(customer_id="nobody") == []
    assert found(**{"from": "2026-11-23T15:00:04.5Z"}) == ["a", "b"]
    assert found(to="2026-11-23T15:00:04.5Z") == []


def test_a_bound_key_sees_only_its_customer(api: Api) -> None:
    api.post([start(), end(), {**start("x"), "subject": "bolt"}, {**end("x"), "subject": "bolt"}])
    api.finalize()
    bound = api.client_with(Role.READ, "bolt")
    assert bound.get("/v1/streams/acme/s").status_code == 403
    assert bound.get("/v1/charges?customer_id=acme").status_code == 403
    assert bound.get("/v1/totals", params={**MONTH, "customer_id": "acme"}).status_code == 403
    assert [row["customer_id"] for row in bound.get("/v1/charges").json()["data"]] == ["bolt"]
    assert [row["customer_id"] for row in bound.get("/v1/customers").json()["data"]] == ["bolt"]
    rows = bound.get("/v1/totals", params={**MONTH, "group_by": "customer_id"}).json()["data"]
    assert [row["customer_id"] for row in rows] == ["bolt"]
    assert bound.put("/v1/customers/bolt", json={"name": "x"}).status_code == 403
    assert api.client_with(Role.INGEST).get("/v1/charges").status_code == 403


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/totals", "from: Field required; to: Field required"),
        ("/v1/totals?from=2026-11-01T00:00:00Z&to=2026-10-01T00:00:00Z", "to: must be later than from"),
        ("/v1/totals?from=2026-11-01T00:00:00&to=2026-12-01T00:00:00Z", "from: needs an offset"),
        ("/v1/totals?from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z&group_by=mood", "group_by: 'mood'"),
        ("/v1/totals?from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z&granularity=week", "granularity: "),
        ("/v1/charges?limit=1001", "limit: "),
        ("/v1/charges?cursor=nope", "cursor: "),
        ("/v1/charges?outcome=nope", "outcome: "),
        ("/v1/charges?model=%00", "model: contains NUL"),
    ],
)
def test_a_wrong_parameter_is_named(shared_api: Api, path: str, detail: str) -> None:
    answer = shared_api.client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-parameter")
    assert answer.json()["detail"].startswith(detail)


def test_a_rate_set_by_an_admin_prices_what_waited_for_it(api: Api) -> None:
    api.post([start(provider="house", model="own/1"), end()])
    api.finalize()
    waiting = api.client.get("/v1/streams/acme/s").json()
    assert waiting["state"] == "unpriced"
    assert waiting["cost_usd_cents"] is None
    assert "house/own/1" in waiting["state_reason"]
    rates = [{"kind": "input", "usd_per_million": "1.5"}, {"kind": "output", "usd_per_million": "2"}]
    body = {"rates": rates, "effective_from": "2026-01-01T00:00:00Z"}
    assert api.client.put("/v1/rates/house/own/1", json=body).status_code == 200
    assert api.client.put("/v1/rates/house/own/1", json=body).status_code == 409
    api.finalize()
    assert api.client.get("/v1/streams/acme/s").json()["cost_usd_cents"] == "0.1292"


@pytest.mark.parametrize(
    "rates",
    [
        [],
        [{"kind": "input", "usd_per_million": "-1"}],
        [{"kind": "input", "usd_per_million": "NaN"}],
        [{"kind": "mood", "usd_per_million": "1"}],
        [{"kind": "output", "usd_per_million": "1"}],
        [{"kind": "input", "usd_per_million": "1"}] * 2,
    ],
)
def test_rates_that_make_no_card_are_refused(shared_api: Api, rates: list[dict[str, str]]) -> None:
    answer = shared_api.client.put("/v1/rates/house/own-1", json={"rates": rates})
    assert answer.status_code == 422
    assert "rates" in answer.json()["detail"]


def test_a_customer_can_be_named_and_linked_and_keeps_the_rest(api: Api) -> None:
    put = api.client.put
    assert put("/v1/customers/acme", json={"name": "Acme", "time_zone": "Europe/Berlin"}).status_code == 200
    linked = put("/v1/customers/acme", json={"stripe_customer_id": "cus_1"}).json()
    assert (linked["name"], linked["time_zone"], linked["stripe_customer_id"]) == (
        "Acme",
        "Europe/Berlin",
        "cus_1",
    )
    assert put("/v1/customers/bolt", json={"stripe_customer_id": "cus_1"}).status_code == 409
    assert put("/v1/customers/bolt", json={"time_zone": "Mars/Olympus"}).status_code == 422


def test_health_metrics_and_documentation_answer(api: Api) -> None:
    api.post([start(), end()])
    assert api.client.get("/livez").json() == {"status": "alive"}
    ready = api.client.get("/readyz").json()
    assert (ready["status"], ready["streams_due"]) == ("ready", 1)
    assert ready["oldest_due_seconds"] > 0
    assert "metering_streams_due 1.0" in api.client.get("/metrics").text
    paths = api.client.get("/openapi.json").json()["paths"]
    assert {"/v1/events", "/v1/totals", "/v1/charges"} <= set(paths)
    assert api.client.get("/docs").status_code == 200


def test_a_customer_is_read_alone(api: Api) -> None:
    put(api, "/v1/customers/a%2Fb", name="A and B", time_zone="Asia/Tokyo")
    one = api.client.get("/v1/customers/a%2Fb").json()
    assert (one["customer_id"], one["name"], one["time_zone"]) == ("a/b", "A and B", "Asia/Tokyo")
    (listed,) = api.client.get("/v1/customers").json()["data"]
    assert listed == one
    missing = api.client.get("/v1/customers/nobody")
    assert (missing.status_code, missing.json()["detail"]) == (404, "there is no customer 'nobody'")
    with api.client_with(Role.READ, "other") as bound:
        assert bound.get("/v1/customers/a%2Fb").status_code in (403, 404)

"""The lives of single streams: open, swept, corrected, stuck, resolved; each step shown as the contract has it."""

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from tests.scenarios.clients import PLAIN, Client
from tests.scenarios.comparing import settle
from tests.scenarios.oracle import bill
from tests.scenarios.streams import event
from tests.scenarios.whole import Whole

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
CUSTOMER = "lives"
MAY = {"from": "2026-05-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"}
SWEPT = 60.0


@pytest.fixture(scope="module")
def client(whole: Whole) -> Client:
    return Client(whole.url, whole.key)


def start(stream_id: str, after: float = 0, **data: object) -> dict:
    named = {"provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812} | data
    return event("stream-start", CUSTOMER, stream_id, NOON + timedelta(seconds=after), **named)


def token(stream_id: str, output_tokens: int, after: float = 1) -> dict:
    moment = NOON + timedelta(seconds=after)
    return event("token-delivered", CUSTOMER, stream_id, moment, seq=int(after), output_tokens=output_tokens)


def end(stream_id: str, after: float = 9, **data: object) -> dict:
    named = {"outcome": "completed", "usage_source": "gateway_count"} | data
    return event("stream-end", CUSTOMER, stream_id, NOON + timedelta(seconds=after), **named)


def post(client: Client, events: Iterable[dict]) -> None:
    sent = list(events)
    answer = client.post(sent)
    told = answer.json()
    assert (answer.status, told["accepted"], told["rejected"]) == (200, len(sent), [])


def post_and_settle(client: Client, told: list[dict], *more: dict) -> dict:
    """Tell more about one stream, wait until it is as the oracle has it, and give what is shown."""
    told += more
    post(client, more)
    (shown,) = settle(client, bill(told), within=SWEPT).values()
    return shown


def test_the_contracts_example_costs_what_the_contract_says(client: Client) -> None:
    usage = {"input_tokens": 812, "output_tokens": 37}
    shown = post_and_settle(client, [], start("01J9"), end("01J9", outcome="cancelled", usage=usage))
    assert shown["cost_usd_cents"] == "0.4985"
    assert shown["cancel_policy"] == "delivered"
    assert shown["usage"] == usage
    assert [line["usd_cents"] for line in shown["charge"]["lines"]] == ["0.406", "0.0925"]


@pytest.fixture(scope="module")
def patient(client: Client) -> dict[str, list]:
    """Streams that nobody ends, all at once because silence takes its time: what is shown before and after."""
    told = [start("open"), token("open", 37), start("late"), token("late", 37), token("orphan", 37)]
    told += [start("accruing") | {"subject": "accrues"}, token("accruing", 37) | {"subject": "accrues"}]
    post(client, told)
    open_streams = [client.stream(CUSTOMER, stream_id) for stream_id in ("open", "late", "orphan")]
    totals = [_total(client, "accrues")]
    settle(client, bill(told), within=SWEPT)
    swept = [client.stream(CUSTOMER, stream_id) for stream_id in ("open", "late", "orphan")]
    return {"open": open_streams, "swept": swept, "totals": [*totals, _total(client, "accrues")]}


def _total(client: Client, customer: str) -> list[tuple]:
    rows = client.pages("/v1/totals", **MAY, group_by="customer_id")
    fields = ("stream_count", "cost_usd_cents", "accrued_usd_cents")
    return [tuple(row[name] for name in fields) for row in rows if row["customer_id"] == customer]


def test_an_open_stream_shows_an_estimate_and_no_cost_until_it_is_swept(patient: dict[str, list]) -> None:
    shown, swept = patient["open"][0], patient["swept"][0]
    assert (shown["state"], shown["cost_usd_cents"], shown["charge"]) == ("open", None, None)
    assert shown["accrued_usd_cents"] == "0.4985"
    assert (swept["outcome"], swept["cost_usd_cents"], swept["accrued_usd_cents"]) == ("abandoned", "0.4985", None)


def test_totals_keep_what_is_accrued_apart_from_what_is_final(patient: dict[str, list]) -> None:
    assert patient["totals"] == [[(0, "0", "0.4985")], [(1, "0.4985", "0")]]


def test_a_swept_stream_is_corrected_by_its_real_end_and_its_charge_never_edited(
    client: Client, patient: dict[str, list]
) -> None:
    swept = patient["swept"][1]
    told = [start("late"), token("late", 37)]
    usage = {"input_tokens": 900, "output_tokens": 40, "cache_read_input_tokens": 100}
    ended = post_and_settle(client, told, end("late", usage=usage, usage_source="provider"))
    assert ended["charge"] == swept["charge"]
    (adjustment,) = ended["adjustments"]
    difference = Fraction(ended["cost_usd_cents"]) - Fraction(swept["cost_usd_cents"])
    assert Fraction(adjustment["usd_cents"]) == difference != 0
    again = post_and_settle(client, told, *told)
    assert (again["charge"], again["adjustments"]) == (ended["charge"], ended["adjustments"])


def test_a_fact_that_changes_no_bill_books_no_adjustment(client: Client) -> None:
    told: list[dict] = []
    usage = {"input_tokens": 1, "output_tokens": 40}
    final = post_and_settle(client, told, start("calm"), end("calm", usage=usage, usage_source="provider"))
    post(client, [token("calm", 30), token("calm", 39, after=2)])
    post_and_settle(client, [], start("calm-marker"), end("calm-marker", usage=usage))
    later = client.stream(CUSTOMER, "calm")
    assert (later["charge"], later["adjustments"]) == (final["charge"], [])


def test_an_orphan_resolves_when_its_start_arrives(client: Client, patient: dict[str, list]) -> None:
    orphan = patient["swept"][2]
    assert (orphan["state"], orphan["cost_usd_cents"]) == ("orphaned", None)
    assert (
        post_and_settle(client, [token("orphan", 37)], start("orphan"), end("orphan"))["cost_usd_cents"]
        == "0.4985"
    )


def test_an_unpriced_stream_resolves_when_its_rate_arrives(client: Client) -> None:
    told = [start("unpriced", model="brand-new-1"), token("unpriced", 37), end("unpriced")]
    assert post_and_settle(client, [], *told)["state"] == "unpriced"
    rates = [{"kind": "input", "usd_per_million": "5"}, {"kind": "output", "usd_per_million": "25"}]
    card = {"rates": rates, "effective_from": "2026-05-01T00:00:00Z"}
    path, body = "/v1/rates/anthropic/brand-new-1", json.dumps(card).encode()
    assert client.request("PUT", path, body=body, Content_Type=PLAIN).status == 200
    assert _eventually_final(client, "unpriced")["cost_usd_cents"] == "0.4985"


def _eventually_final(client: Client, stream_id: str) -> dict:
    deadline = time.monotonic() + SWEPT
    while (shown := client.stream(CUSTOMER, stream_id))["state"] != "finalized":
        assert time.monotonic() < deadline, shown
        time.sleep(0.1)
    return shown


def test_a_contradiction_takes_the_bill_back_and_a_better_source_settles_it(client: Client) -> None:
    told: list[dict] = []
    usage = {"input_tokens": 812, "output_tokens": 37}
    assert post_and_settle(client, told, start("torn"), end("torn", usage=usage))["cost_usd_cents"] == "0.4985"
    torn = post_and_settle(client, told, end("torn", usage=usage | {"output_tokens": 38}))
    assert (torn["state"], torn["cost_usd_cents"]) == ("conflicting", None)
    settled = post_and_settle(client, told, end("torn", after=20, usage=usage, usage_source="provider"))
    assert (settled["state"], settled["cost_usd_cents"]) == ("finalized", "0.4985")


@pytest.mark.parametrize(
    "same",
    [
        (start("same-1", streaming=True, operation="chat"), start("same-1")),
        (start("same-2", x_new="a"), start("same-2", x_new="b")),
        (start("same-3"), start("same-3", after=5)),
        (start("same-4", tags={"a": "1", "b": "2"}), start("same-4", tags={"b": "2", "a": "1"})),
        (start("same-5"), start("same-5") | {"source": "/gateways/other", "id": "other"}),
    ],
    ids=["defaults spelled out", "unknown fields", "another time", "order of tags", "another gateway"],
)
def test_starts_that_say_the_same_do_not_contradict(client: Client, same: tuple[dict, dict]) -> None:
    stream_id = same[0]["data"]["stream_id"]
    shown = post_and_settle(client, [], *same, end(stream_id, usage={"output_tokens": 37}))
    assert (shown["state"], shown["cost_usd_cents"]) == ("finalized", "0.4985")


def test_a_stream_belongs_to_the_month_of_its_end_in_utc(client: Client) -> None:
    begun = datetime.fromisoformat("2026-05-31T23:59:59.900Z")
    for stream_id, moment, period in (
        ("in-may", "2026-05-31T23:59:59.999999Z", "2026-05"),
        ("in-june", "2026-06-01T00:00:00Z", "2026-06"),
        ("in-may-there-in-june-here", "2026-06-01T01:30:00+02:00", "2026-05"),
    ):
        begin = start(stream_id) | {"time": begun.isoformat()}
        finish = end(stream_id, usage={"output_tokens": 1}) | {"time": moment}
        assert post_and_settle(client, [], begin, finish)["charge"]["period"] == period


@pytest.mark.parametrize(("size", "rates"), [(272_000, {"30", "180"}), (272_001, {"60", "270"})])
def test_a_tier_begins_above_its_size(client: Client, size: int, rates: set[str]) -> None:
    stream_id = f"tier-{size}"
    begin = start(stream_id, provider="openai", model="gpt-5.5-pro", input_tokens=size)
    shown = post_and_settle(client, [], begin, end(stream_id, usage={"output_tokens": 7}))
    assert {line["usd_per_million"] for line in shown["charge"]["lines"]} == rates


def test_nothing_that_was_delivered_is_ever_free_for_being_cancelled(client: Client) -> None:
    for outcome in ("completed", "cancelled", "failed", "timed_out"):
        used = {"input_tokens": 812, "output_tokens": 0} if outcome == "completed" else NOTHING
        told = [start(outcome), token(outcome, 37), end(outcome, outcome=outcome)]
        assert post_and_settle(client, [], *told)["cost_usd_cents"] == "0.4985"
        nothing = f"{outcome}-nothing"
        empty = post_and_settle(client, [], start(nothing), end(nothing, outcome=outcome))
        assert (empty["cost_usd_cents"], empty["usage"]) == ("0" if used == NOTHING else "0.406", used)
        assert empty["flags"] == (["output_unknown"] if outcome == "completed" else [])


NOTHING = {"input_tokens": 0, "output_tokens": 0}

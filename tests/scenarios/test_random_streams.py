"""A few thousand random streams, posted in disorder: every bill, charge list and total equals the oracle's."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from tests.scenarios.clients import Client, post_all
from tests.scenarios.comparing import settle
from tests.scenarios.oracle import Bill, Key, Total, bill, decimal_string, instant, totals
from tests.scenarios.prices import PRICES
from tests.scenarios.streams import Maker, Plan
from tests.scenarios.whole import Whole

pytestmark = pytest.mark.long

STREAMS = 1_200
PREFIX = "disorder-"
BEGIN = datetime(2026, 7, 20, tzinfo=UTC)
SPAN = timedelta(days=50)
WINDOW = {"from": "2026-07-01T00:00:00Z", "to": "2026-10-01T00:00:00Z"}  # nothing else ends in it
WANTED = (
    *("finalized", "unpriced", "orphaned", "conflicting", "adjusted", "booked, then taken back"),
    *("completed", "cancelled", "failed", "timed_out", "abandoned", "provider", "gateway_count", "estimate"),
    *("no start", "no end", "no usage", "partial usage", "nested above its parent", "token events lost"),
    *("starts conflict", "start repeated at another time", "ends conflict", "end repeated at another time"),
    *(
        "end of another rank",
        "late events",
        "late contradiction",
        "response model",
        "strange id",
        "huge",
        "dearer tier",
    ),
    *("billed nothing", "billed nothing without a rate", "input unknown", "line input", "line output"),
    *("line cache_read", "line cache_write", "line input_audio", "line output_audio"),
)


@pytest.fixture(scope="module")
def client(whole: Whole) -> Client:
    return Client(whole.url, whole.key)


@pytest.fixture(scope="module")
def plans(seed: int) -> list[Plan]:
    return Maker(random.Random(f"{seed} plans"), prefix=PREFIX, begin=BEGIN, span=SPAN).plans(STREAMS)


@pytest.fixture(scope="module")
def billed(client: Client, seed: int, plans: list[Plan]) -> tuple[dict[Key, Bill], dict[Key, dict]]:
    """What the oracle expects and what the service answers once all is posted, the late events last."""
    rng = random.Random(f"{seed} posting")
    sent = Counter(post_all(client, [each for plan in plans for each in plan.events], rng).counts)
    split = {plan.key: plan for plan in plans if plan.late}
    first = bill(each for plan in split.values() for each in plan.events)
    before = settle(client, first, within=60)
    late = [each for plan in split.values() for each in plan.late]
    sent += Counter(post_all(client, late, rng).counts)
    assert sent["duplicates"] > 100
    assert len([form for form in sent if form.startswith("application/")]) >= 9, sent
    expected = bill(each for plan in plans for each in [*plan.events, *plan.late])
    answers = settle(client, expected, within=60)
    assert any(before[key]["state"] == "finalized" != answers[key]["state"] for key in split)
    assert any(answers[key]["adjustments"] for key in split)
    return expected, answers


def test_every_stream_is_billed_as_the_oracle_bills_it(billed: tuple[dict[Key, Bill], dict[Key, dict]]) -> None:
    expected, answers = billed
    assert {key: got["cost_usd_cents"] for key, got in answers.items()} == {
        key: each.cost for key, each in expected.items()
    }
    assert len(expected) == STREAMS


def test_every_class_of_stream_was_really_reached(
    plans: list[Plan], billed: tuple[dict[Key, Bill], dict[Key, dict]]
) -> None:
    expected, answers = billed
    reached = Counter(trait for plan in plans for trait in plan.traits)
    for got in answers.values():
        reached.update((got["state"], str(got["outcome"]), got["usage_source"]))
        reached.update(f"line {line['kind']}" for line in (got["charge"] or {"lines": []})["lines"])
        reached["adjusted"] += bool(got["adjustments"])
        reached["booked, then taken back"] += got["state"] != "finalized" and got["charge"] is not None
    for each in expected.values():
        reached["billed nothing"] += each.billed_nothing
        has_rate = (each.provider, each.model) in PRICES
        reached["billed nothing without a rate"] += each.state == "finalized" and not has_rate
        reached["input unknown"] += each.input_unknown
        dearer = {price.then for price in PRICES.get((each.provider, each.model), {}).values() if price.above}
        reached["dearer tier"] += any(line.usd_per_million in dearer for line in each.lines)
        reached["huge"] += each.cents is not None and max(each.usage.values()) >= 2**53 - 2
    print(reached)
    assert not [name for name in WANTED if not reached[name]]


def test_the_list_of_charges_holds_each_booked_stream_once_and_with_adjustments_adds_up(
    client: Client, billed: tuple[dict[Key, Bill], dict[Key, dict]]
) -> None:
    expected, answers = billed
    booked: dict[Key, Fraction] = {}
    for customer in sorted({key[0] for key in expected}):
        for row in client.pages("/v1/charges", customer_id=customer, limit=37):
            key = row["customer_id"], row["stream_id"]
            assert key not in booked, f"{key} is listed twice"
            booked[key] = Fraction(row["cost_usd_cents"])
    assert set(booked) == {key for key, got in answers.items() if got["charge"] is not None}
    for key, cents in booked.items():
        adjusted = sum(Fraction(each["usd_cents"]) for each in answers[key]["adjustments"])
        assert cents + adjusted == (expected[key].cents or 0), key


@pytest.mark.parametrize("granularity", ["none", "hour", "day", "month"])
@pytest.mark.parametrize(
    "group_by",
    [
        ("customer_id",),
        ("provider", "model"),
        ("outcome", "usage_source"),
        ("customer_id", "model", "api_key_id"),
        (),
    ],
    ids=",".join,
)
def test_totals_equal_the_oracles_in_every_grouping(
    client: Client, billed: tuple[dict[Key, Bill], dict[Key, dict]], group_by: tuple[str, ...], granularity: str
) -> None:
    expected = totals(billed[0].values(), group_by=group_by, granularity=granularity)
    query = WINDOW | {"granularity": granularity, "limit": 97 if len(expected) > 97 else 2}
    if group_by:
        query["group_by"] = ",".join(group_by)
    assert _final_totals(client, query, group_by) == _printed(expected)


def _printed(expected: Mapping[tuple, Total]) -> dict[tuple, tuple]:
    return {
        key: (
            total.stream_count,
            total.tokens["input_tokens"],
            total.tokens["output_tokens"],
            decimal_string(total.cents),
        )
        for key, total in expected.items()
    }


def _final_totals(client: Client, query: dict[str, object], group_by: Iterable[str]) -> dict[tuple, tuple]:
    """The groups that have any final stream or amount; a group never comes twice."""
    found: dict[tuple, tuple] = {}
    for row in client.pages("/v1/totals", **query):
        assert ("start" in row) == (query["granularity"] != "none")
        key = (instant(row["start"]) if "start" in row else None, *(row[name] for name in group_by))
        assert key not in found, f"{key} comes twice"
        found[key] = (row["stream_count"], row["input_tokens"], row["output_tokens"], row["cost_usd_cents"])
    return {key: row for key, row in found.items() if row != (0, 0, 0, "0")}

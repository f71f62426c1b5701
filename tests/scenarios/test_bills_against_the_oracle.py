"""Thousands of random streams, posted badly: every bill, charge and total as the contract's text has it."""

import random
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from tests.scenarios import oracle
from tests.scenarios.generator import World
from tests.scenarios.posting import post_badly
from tests.scenarios.prices import MODELS, Model
from tests.scenarios.whole import Whole

pytestmark = pytest.mark.long

STREAMS = 1500
RANGE = {"from": "2026-10-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.provider}/{model.name}")
def test_the_oracles_prices_are_those_of_the_catalogue(model: Model) -> None:
    for size in (1_000, 128_001, 200_001, 272_001):
        usage = Usage(input_tokens=size, output_tokens=100)
        moment = datetime.fromisoformat("2026-11-01T00:00:00+00:00")
        priced = calc_price(usage, model.package_id, provider_id=model.provider, genai_request_timestamp=moment)
        expected = (size * model.prices["input"].at(size) + 100 * model.prices["output"].at(size)) / 1_000_000
        assert Fraction(priced.total_price) == expected


@pytest.fixture(scope="module")
def posted(whole: Whole, seed: int) -> tuple[World, dict[oracle.Key, oracle.Bill]]:
    """A world of streams, posted and settled; late events come after everything was final once."""
    rng = random.Random(seed)
    world = World(rng, prefix="random")
    world.add_streams(STREAMS)
    post_badly(url=whole.url, key=whole.key, events=world.events, rng=rng)
    whole.settle()
    post_badly(url=whole.url, key=whole.key, events=world.late, rng=rng)
    whole.settle()
    bills = oracle.bill([*world.events, *world.late])
    for bill in bills.values():
        world.reached[f"state {bill.state}"] += 1
        world.reached[f"outcome {bill.outcome}"] += 1
        world.reached["nothing billed"] += bill.billed_nothing
        world.reached["input unknown"] += bill.input_unknown
    return world, bills


def test_every_kind_of_stream_came_up(posted: tuple[World, Any]) -> None:
    world, _ = posted
    expected = [
        *("state finalized", "state conflicting", "state orphaned", "state unpriced", "nothing billed"),
        *("outcome completed", "outcome cancelled", "outcome abandoned", "input unknown", "late end"),
        *("no start", "no end", "unknown model", "conflicting starts", "conflicting ends", "cached input"),
        *("start sent again with another time", "another model answered", "more cached than input"),
    ]
    assert {what: world.reached[what] for what in expected if not world.reached[what]} == {}


def test_every_stream_is_billed_as_the_contract_says(
    whole: Whole, posted: tuple[Any, dict[oracle.Key, oracle.Bill]]
) -> None:
    _, bills = posted
    for (customer, stream_id), bill in bills.items():
        shown = whole.stream(customer, stream_id)
        where = (customer, stream_id, shown)
        assert shown["state"] == bill.state, where
        assert shown["cost_usd_cents"] == bill.cost, where
        if bill.state != "finalized":
            continue
        assert shown["outcome"] == bill.outcome, where
        assert shown["usage"] == bill.usage, where
        assert shown["usage_source"] == bill.usage_source, where
        assert shown["input_unknown"] == bill.input_unknown, where
        assert datetime.fromisoformat(shown["ended_at"]) == bill.ended_at, where
        newest = shown["adjustments"][-1] if shown["adjustments"] else shown["charge"]
        lines = {(line["kind"], line["quantity"]): line["usd_cents"] for line in newest["lines"]}
        assert lines == {(line.kind, line.quantity): oracle.decimal_string(line.cents) for line in bill.lines}, (
            where
        )


def test_charges_and_adjustments_sum_to_the_bills(
    whole: Whole, posted: tuple[Any, dict[oracle.Key, oracle.Bill]]
) -> None:
    _, bills = posted
    ours = {customer for customer, _ in bills}
    charges = [row for row in whole.all_rows("/v1/charges", limit=371) if row["customer_id"] in ours]
    keys = [(row["customer_id"], row["stream_id"]) for row in charges]
    assert len(keys) == len(set(keys))
    final = {key for key, bill in bills.items() if bill.state == "finalized"}
    assert final <= set(keys)
    for row in charges:
        assert sum(Fraction(line["usd_cents"]) for line in row["lines"]) == Fraction(row["cost_usd_cents"])
    in_period = {row["period"] for row in charges}
    assert in_period == {"2026-10", "2026-11"}


GROUPINGS = [
    ("", "none"),
    ("customer_id", "month"),
    ("customer_id,model", "day"),
    ("provider,outcome", "none"),
    ("usage_source", "hour"),
    ("api_key_id,customer_id", "month"),
]


@pytest.mark.parametrize(("group_by", "granularity"), GROUPINGS)
def test_totals_are_the_sums_of_the_bills(
    whole: Whole, posted: tuple[Any, dict[oracle.Key, oracle.Bill]], group_by: str, granularity: str
) -> None:
    _, bills = posted
    names = [name for name in group_by.split(",") if name]
    expected: dict[tuple[Any, ...], tuple[int, dict[str, int], Fraction]] = {}
    shown: dict[tuple[Any, ...], tuple[int, dict[str, int], Fraction]] = {}
    for customer in sorted({customer for customer, _ in bills}):
        mine = [bill for bill in bills.values() if bill.customer_id == customer]
        for key, total in oracle.totals(mine, group_by=names, granularity=granularity).items():
            expected[(customer, *key)] = (total.stream_count, total.tokens, total.cents)
        rows = whole.all_rows(
            "/v1/totals", **RANGE, group_by=group_by, granularity=granularity, customer_id=customer, limit=17
        )
        for row in rows:
            start = datetime.fromisoformat(row["start"]) if "start" in row else None
            tokens = {name: row[name] for name in oracle.COUNTERS}
            figures = (row["stream_count"], tokens, Fraction(row["cost_usd_cents"]))
            shown[(customer, start, *(row[name] for name in names))] = figures
            assert row["accrued_usd_cents"] == "0"
    assert shown == expected


def test_another_order_and_other_batches_make_the_same_bills(whole: Whole) -> None:
    rng = random.Random(4711)
    worlds = [World(random.Random(4711), prefix=prefix) for prefix in ("first", "second")]
    for world in worlds:
        world.add_streams(150)
        post_badly(url=whole.url, key=whole.key, events=[*world.events, *world.late], rng=rng)
    whole.settle()
    first, second = (list(_bills(whole, oracle.bill([*world.events, *world.late]))) for world in worlds)
    assert len(first) > 100
    assert first == second
    assert sum(Decimal(bill[1]) for bill in first if bill[1]) > 0


@pytest.mark.usefixtures("posted")
def test_the_audit_agrees(whole: Whole) -> None:
    whole.audit()


def _bills(whole: Whole, bills: Iterable[oracle.Key]) -> Iterable[tuple[str, str | None, Any]]:
    for customer, stream_id in sorted(bills):
        shown = whole.stream(customer, stream_id)
        yield shown["state"], shown["cost_usd_cents"], shown["usage"]

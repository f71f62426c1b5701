"""Prices set by hand, markups, cancel policies, retries and rerating, as the oracle has them."""

import random
from collections import Counter
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from tests.scenarios import oracle
from tests.scenarios.generator import World
from tests.scenarios.posting import post_badly
from tests.scenarios.prices import Hours, Model, Price
from tests.scenarios.terms import Prices, Terms
from tests.scenarios.whole import Whole

pytestmark = pytest.mark.long

STREAMS = 1_250
PROVIDER = "house"
LONG_AGO = "2026-01-01T00:00:00"
# While the streams of this world start: 30 October, 22 h, and the two days after it.
MIDWAY = "2026-10-31T12:00:00"
WINDOW = timedelta(minutes=10)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


def prices(**given: str) -> Prices:
    """Prices such as `input="5"`, or `input="5 10"` where a tier begins above 200,000 tokens."""
    table: Prices = {}
    for kind, text in given.items():
        base, _, then = text.partition(" ")
        table[kind] = Price(Fraction(base), 200_000 if then else None, Fraction(then or 0))
    return table


BIG = prices(input="3.3 6.7", output="15 22.5", cache_read="0.33 0.67", reasoning="11 13")
SMALL = prices(input="0.1", output="0.7")
SMALL_LATER = prices(input="0.2", output="0.9", cache_write="0.3")
OWN = prices(input="0.05", output="0.35")
SMALL_RERATED = prices(input="0.15", output="0.8")
# Streams start from Friday evening until Sunday evening.
FRIDAY_NIGHT, SATURDAY = Hours((4,), 20, 12), Hours((5,), 0, 24)
BY_THE_HOUR = {
    "input": Price(Fraction(2), 200_000, Fraction(3), FRIDAY_NIGHT, Fraction("0.7")),
    "output": Price(Fraction(9), hours=SATURDAY, inside=Fraction(11)),
}
WRITTEN = {FRIDAY_NIGHT: "fri/20:00-08:00", SATURDAY: "sat"}
MODELS = (
    Model(PROVIDER, "big-1", BIG),
    Model(PROVIDER, "small-1", SMALL),
    Model(PROVIDER, "hourly-1", BY_THE_HOUR),
)


def set_prices(whole: Whole, terms: Terms, model: str, table: Prices, since: str, customer: str = "") -> None:
    rates = [f"{kind}={oracle.decimal_string(price.base)}" for kind, price in table.items()]
    rates += [
        f"{kind}>{price.above}={oracle.decimal_string(price.then)}"
        for kind, price in table.items()
        if price.above is not None
    ]
    rates += [
        f"{kind}={oracle.decimal_string(price.inside)}~{WRITTEN[price.hours]}"
        for kind, price in table.items()
        if price.hours is not None
    ]
    owner = ["--customer", customer] if customer else []
    whole.meter("rates", "set", PROVIDER, model, *rates, "--effective-from", since, *owner)
    terms.cards.append((moment(since), (customer or None, PROVIDER, model), table))


@pytest.fixture(scope="module")
def terms(whole: Whole) -> Terms:
    """What is in force before any stream comes."""
    terms = Terms()
    set_prices(whole, terms, "big-1", BIG, LONG_AGO)
    set_prices(whole, terms, "small-1", SMALL, LONG_AGO)
    set_prices(whole, terms, "hourly-1", BY_THE_HOUR, LONG_AGO)
    set_prices(whole, terms, "small-1", SMALL_LATER, MIDWAY)
    set_prices(whole, terms, "small-1", OWN, MIDWAY, "terms-1")
    for customer, percent in (("terms-2", "-12.5"), ("terms-3", "30"), ("terms-1", "7")):
        whole.meter("customers", "markup", "--effective-from", MIDWAY, "--", customer, percent)
        terms.markups.append((moment(MIDWAY), customer, Fraction(percent)))
    for policy, since in (("drain", LONG_AGO), ("zero", MIDWAY), ("delivered", "2026-11-01T06:00:00")):
        whole.meter("cancel-policy", "set", PROVIDER, policy, "--effective-from", since)
        terms.policies.append((moment(since), PROVIDER, policy))
    return terms


@pytest.fixture(scope="module")
def world(whole: Whole, seed: int, terms: Terms) -> World:
    """Streams, posted and settled; late events come after everything was final once."""
    assert terms.policies
    rng = random.Random(seed)
    world = World(rng, prefix="terms", models=MODELS, days=2)
    world.add_streams(STREAMS)
    for events in (world.events, world.late):
        post_badly(url=whole.url, key=whole.key, events=events, rng=rng)
        whole.settle()
    return world


@pytest.fixture(scope="module")
def bills(world: World, terms: Terms) -> dict[oracle.Key, oracle.Bill]:
    """What each stream costs by these terms."""
    return oracle.bill([*world.events, *world.late], terms=terms)


@pytest.fixture(scope="module")
def shown(whole: Whole, bills: dict[oracle.Key, oracle.Bill]) -> dict[oracle.Key, Any]:
    """Each stream as it is shown before anything is rerated."""
    return {key: whole.stream(*key) for key in bills}


def check(shown: Any, bill: oracle.Bill) -> None:
    assert (shown["state"], shown["cost_usd_cents"]) == (bill.state, bill.cost), shown


def test_every_stream_is_billed_by_the_terms_in_force_when_it_started(
    bills: dict[oracle.Key, oracle.Bill], shown: dict[oracle.Key, Any]
) -> None:
    for key, bill in bills.items():
        check(shown[key], bill)
    final = [bill for bill in bills.values() if bill.state == "finalized"]
    assert len(final) > STREAMS / 2
    assert sum(not bill.lines and not bill.billed_nothing for bill in final) > 20


def test_streams_of_both_prices_of_the_hour_are_among_them(bills: dict[oracle.Key, oracle.Bill]) -> None:
    hourly = [line for bill in bills.values() if bill.model == "hourly-1" for line in bill.lines]
    inputs = Counter(line.usd_per_million for line in hourly if line.kind == "input")
    assert inputs[Fraction("0.7")] > 5
    assert inputs[Fraction(2)] + inputs[Fraction(3)] > 5
    assert len({line.usd_per_million for line in hourly if line.kind == "output"}) > 1


def test_retries_are_linked_to_what_they_repeat(
    bills: dict[oracle.Key, oracle.Bill], shown: dict[oracle.Key, Any]
) -> None:
    expected = oracle.retries(bills, window=WINDOW)
    assert len(expected) > 20
    found = {key: shown[key]["retry_of"] for key, bill in bills.items() if bill.state == "finalized"}
    assert {key: retry_of for key, retry_of in found.items() if retry_of} == expected


def test_totals_show_what_retries_cost(whole: Whole, bills: dict[oracle.Key, oracle.Bill]) -> None:
    repeats = oracle.retries(bills, window=WINDOW)
    cost = sum((bills[key].cents or Fraction(0) for key in repeats), Fraction(0))
    rows: list[dict[str, Any]] = []
    for customer in sorted({customer for customer, _ in bills}):
        query = {"from": "2026-10-01T00:00:00Z", "to": "2026-12-01T00:00:00Z", "customer_id": customer}
        rows += [row for row in whole.all_rows("/v1/totals", **query, group_by="retry") if row["retry"]]
    assert sum(row["stream_count"] for row in rows) == len(repeats)
    assert sum(Fraction(row["cost_usd_cents"]) for row in rows) == cost


def test_a_month_is_rerated_and_the_other_stays(
    whole: Whole, world: World, terms: Terms, bills: dict[oracle.Key, oracle.Bill], shown: dict[oracle.Key, Any]
) -> None:
    october = {
        key
        for key, bill in bills.items()
        if bill.state == "finalized" and shown[key]["charge"]["period"] == "2026-10"
    }
    set_prices(whole, terms, "small-1", SMALL_RERATED, "2026-10-31T00:00:00")
    after = oracle.bill([*world.events, *world.late], terms=terms)
    rerated = {key: after[key] if key in october else bills[key] for key in bills}
    changed = [key for key in october if rerated[key].cents != bills[key].cents]
    assert len(changed) > 20
    # A price alone changes nothing of what is booked.
    for key in changed[:20]:
        check(whole.stream(*key), bills[key])
    whole.meter("rerate", "--period", "2026-10", "--provider", PROVIDER, "--yes")
    for key, bill in rerated.items():
        check(whole.stream(*key), bill)
    whole.audit()

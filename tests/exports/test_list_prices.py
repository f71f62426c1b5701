"""List prices: the rate card's price of each row, for every size, service tier, time of day and markup."""

import random
from collections import Counter
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from itertools import product

import pytest

from metering.customers.store import CustomerDetails
from metering.events.events import UsageSource
from metering.events.usage import Usage, UsageKind
from metering.prices.rates import DailyWindow, Rate
from metering.prices.set_rate import set_rate
from metering.prices.set_terms import set_markup
from metering.stripe.put_customer import put_customer
from tests.builders import Books, end, start
from tests.exports.costs import check_costs
from tests.exports.files import parquet_rows

PRICED_FROM = datetime(2026, 10, 1, tzinfo=UTC)
BOOKED = datetime(2026, 11, 28, tzinfo=UTC)
NIGHT = DailyWindow(time(22), time(6))
SIZE = 200_000
MARKUPS = {"free": "-100", "cheap": "-99.999", "half": "-50", "plain": "0", "dear": "37.5", "own": "-100"}


def rates(first: int) -> list[Rate]:
    """A rate of its own for every kind, size, service tier and time; none is a multiple of another."""
    places = product(
        (UsageKind.INPUT, UsageKind.CACHE_READ, UsageKind.OUTPUT), (None, "batch"), (None, NIGHT), (0, SIZE)
    )
    return [
        Rate(
            kind=kind,
            usd_per_million=Decimal(first + 2 * number),
            above_input_tokens=above,
            service_tier=tier,
            daily=daily,
        )
        for number, (kind, tier, daily, above) in enumerate(places)
    ]


def rate_of(given: list[Rate], kind: UsageKind, size: int, tier: str | None, at: datetime) -> Decimal:
    """The rate of a stream, found among all rates that say when they apply."""
    (found,) = (
        each.usd_per_million
        for each in given
        if each.kind is kind
        and each.above_input_tokens == (SIZE if size > SIZE else 0)
        and each.service_tier == (tier if tier == "batch" else None)
        and each.daily == (NIGHT if at.hour >= 22 or at.hour < 6 else None)
    )
    return found


@pytest.mark.parametrize("seed", range(3))
def test_list_prices_are_the_rates_that_applied_whatever_the_markup(books: Books, seed: int) -> None:
    drawn = random.Random(seed)
    engine = books.service.engine
    shared, own = rates(3), rates(101)
    for customer_id, given in ((None, shared), ("own", own)):
        set_rate(engine=engine, provider="p", model="m", effective_from=PRICED_FROM, rates=given, set_by="test",
                 now=PRICED_FROM, customer_id=customer_id)  # fmt: skip
    expected: Counter[tuple[str, str, Decimal]] = Counter()
    for customer_id, percent in MARKUPS.items():
        put_customer(engine=engine, customer_id=customer_id, details=CustomerDetails(), now=PRICED_FROM)
        set_markup(engine=engine, customer_id=customer_id, percent=Decimal(percent), effective_from=PRICED_FROM,
                   set_by="test", now=PRICED_FROM)  # fmt: skip
        for number in range(30):
            at = datetime(2026, 11, drawn.randint(2, 4), drawn.randrange(24), drawn.randrange(60), tzinfo=UTC)
            size = drawn.choice((drawn.randint(1, SIZE), SIZE, SIZE + 1, drawn.randint(SIZE, 3 * SIZE)))
            cached = drawn.randint(0, size)
            tier = drawn.choice((None, "batch", "Batch", "other"))
            usage = Usage(input_tokens=size, output_tokens=number + 1, cache_read_input_tokens=cached)
            given = {"customer_id": customer_id, "provider": "p", "model": "m"}
            begun = start(f"s{number}", time=at, service_tier=tier, **given)
            ended = end(f"s{number}", time=at + timedelta(seconds=1), usage=usage, customer_id=customer_id)
            books.receive([begun, ended], at=BOOKED)
            prices = own if customer_id == "own" else shared
            counts = (
                (UsageKind.INPUT, size - cached),
                (UsageKind.CACHE_READ, cached),
                (UsageKind.OUTPUT, number + 1),
            )
            for kind, count in counts:
                price = rate_of(prices, kind, size, tier.lower() if tier else None, at)
                expected[customer_id, kind.value, price] += count
    while books.finalize(now=BOOKED, limit=1000).claimed:
        pass
    rows = parquet_rows(engine, "focus")
    check_costs(rows)
    found: Counter[tuple[str, str, Decimal]] = Counter()
    for row in rows:
        found[row["BillingAccountId"], row["x_UsageKind"], row["ListUnitPrice"]] += row["ConsumedQuantity"]
        percent = Decimal(0 if row["BillingAccountId"] == "own" else MARKUPS[row["BillingAccountId"]])
        assert row["ContractedUnitPrice"] == row["ListUnitPrice"] * (100 + percent) / 100
    assert found == +expected
    assert len(rows) == len({tuple(map(str, row.values())) for row in rows})


def test_a_free_stream_that_grows_over_a_threshold_leaves_one_list_price_for_the_other(books: Books) -> None:
    engine, given = books.service.engine, rates(3)
    set_rate(engine=engine, provider="p", model="m", effective_from=PRICED_FROM, rates=given, set_by="test",
             now=PRICED_FROM)  # fmt: skip
    put_customer(engine=engine, customer_id="acme", details=CustomerDetails(), now=PRICED_FROM)
    set_markup(engine=engine, customer_id="acme", percent=Decimal(-100), effective_from=PRICED_FROM, set_by="test",
               now=PRICED_FROM)  # fmt: skip
    at, later = datetime(2026, 11, 3, 12, tzinfo=UTC), datetime(2026, 12, 10, tzinfo=UTC)
    small = Usage(input_tokens=1_000, output_tokens=5)
    large = Usage(input_tokens=SIZE + 1, output_tokens=5)
    for usage, source, booked in (
        (small, UsageSource.GATEWAY_COUNT, BOOKED),
        (large, UsageSource.PROVIDER, later),
    ):
        books.receive(
            [start(time=at, provider="p", model="m"), end(time=at, usage=usage, usage_source=source)], at=booked
        )
        books.finalize(now=booked)
        if booked is BOOKED:
            assert books.close("2026-11") == {}
    rows = parquet_rows(engine, "focus", "2026-12")
    check_costs(rows)
    kinds = (UsageKind.INPUT, UsageKind.OUTPUT)
    prices = [rate_of(given, kind, size, None, at) for kind in kinds for size in (1_000, SIZE + 1)]
    found = {
        (row["x_UsageKind"], row["ListUnitPrice"]): row["ConsumedQuantity"] for row in rows if row["x_UsageKind"]
    }
    assert found == {
        ("input", prices[0]): -1_000,
        ("input", prices[1]): SIZE + 1,
        ("output", prices[2]): -5,
        ("output", prices[3]): 5,
    }

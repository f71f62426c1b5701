"""Comparing rates: what a new catalogue would change for whom, found once a day, told once, and never applied."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from metering.core.period import BillingPeriod
from metering.corrections.compare_rates import Comparison, compare_rates, last_month
from metering.corrections.simulate_rates import simulate_rates
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.events.events import UsageSource
from metering.events.usage import Usage, UsageKind
from metering.prices.catalogue import Catalogue
from metering.prices.import_rates import Only, import_rates, keep_rates
from metering.prices.queries import PriceChangeView, comparison_health, list_price_changes
from metering.prices.rates import Rate, RateCard
from metering.prices.set_rate import set_rate
from metering.prices.set_terms import set_markup
from metering.stripe.put_customer import put_customer
from tests.builders import Books, end, start
from tests.builders.catalogues import PRICES, dearer, times

OPUS, SONNET = ("anthropic", "claude-opus-4-7"), ("anthropic", "claude-sonnet-4-5")
OCTOBER = datetime(2026, 10, 20, 15, tzinfo=UTC)
NOW = datetime(2026, 11, 29, 6, tzinfo=UTC)
# The rates were imported on 1 November, so what happened in October is received after it.
RECEIVED = datetime(2026, 11, 25, tzinfo=UTC)
DAY = timedelta(days=1)


def catalogue(*models: tuple[str, str], factor: int = 2, source: str = "genai-prices 0.2.4") -> Catalogue:
    """The rates of the vendor, with a multiple of the price of these models."""
    return dearer({model: factor for _, model in models}, source=source)


def opus_card() -> RateCard:
    """The card in force."""
    return [card for card in PRICES.cards if (card.provider, card.model) == OPUS][-1]


def compare(books: Books, found: Catalogue, now: datetime = NOW) -> Comparison | None:
    return compare_rates(engine=books.service.engine, read=lambda: found, every=DAY, now=now)


def open_changes(books: Books) -> list[PriceChangeView]:
    with transaction(books.service.engine) as connection:
        return list(list_price_changes(connection, limit=100))


def costs(books: Books) -> set[tuple[str, int, int, Decimal, Decimal]]:
    query = text(
        "SELECT customer_id, stream_count, unpriced, usd_cents, would_cost_usd_cents FROM price_change_costs"
    )
    with transaction(books.service.engine) as connection:
        return {tuple(row) for row in connection.execute(query)}  # type: ignore[misc]


def use(
    books: Books,
    stream_id: str,
    *,
    customer_id: str = "acme",
    model: str = "claude-opus-4-7",
    at: datetime = OCTOBER,
    usage: Usage | None = None,
) -> None:
    """Book a stream of 10,000 tokens in and 2,000 out: 10 cents of Opus."""
    counted = usage or Usage(input_tokens=10_000, output_tokens=2_000)
    put_customer(engine=books.service.engine, customer_id=customer_id, details=CustomerDetails(), now=RECEIVED)
    ended = end(
        stream_id,
        customer_id=customer_id,
        time=at + timedelta(seconds=4),
        usage=counted,
        usage_source=UsageSource.PROVIDER,
    )
    received = max(at, RECEIVED)
    books.receive([start(stream_id, customer_id=customer_id, model=model, time=at), ended], at=received)
    books.finalize(now=received + timedelta(minutes=1))


def test_the_same_catalogue_changes_nothing(books: Books) -> None:
    use(books, "a")
    found = compare(books, catalogue())
    assert found is not None
    assert (found.changes, found.is_new, open_changes(books)) == ([], False, [])


def test_a_changed_price_is_found_with_what_each_customers_last_month_would_have_cost(books: Books) -> None:
    use(books, "a")
    use(books, "b", usage=Usage(input_tokens=1, output_tokens=0, cache_read_input_tokens=1))
    use(books, "c", customer_id="bolt")
    use(books, "another-model", model="claude-sonnet-4-5")
    use(books, "this-month", at=NOW - DAY)
    found = compare(books, catalogue(OPUS))
    assert found is not None
    assert ([change.model for change in found.changes], found.is_new) == (["claude-opus-4-7"], True)
    assert costs(books) == {
        ("acme", 2, 0, Decimal("10.00005"), Decimal("20.0001")),
        ("bolt", 1, 0, Decimal(10), Decimal(20)),
    }
    (change,) = open_changes(books)
    assert (change.period, change.customer_count, change.source) == ("2026-10", 2, "genai-prices 0.2.4")
    assert (change.usd_cents, change.would_cost_usd_cents) == (Decimal("20.00005"), Decimal("40.0001"))
    assert "input 5" in change.was
    assert "input 10" in change.becomes
    assert change.starts_at == NOW


def test_a_comparison_changes_no_price_and_no_bill(books: Books) -> None:
    use(books, "a")
    compare(books, catalogue(OPUS))
    use(books, "b", at=NOW + DAY)
    assert books.check_totals() == 20


def test_it_is_compared_once_a_day_by_one_worker(books: Books) -> None:
    assert compare(books, catalogue()) is not None
    assert compare(books, catalogue(OPUS), NOW + DAY - timedelta(seconds=1)) is None
    assert open_changes(books) == []
    assert compare(books, catalogue(OPUS), NOW + DAY) is not None
    assert len(open_changes(books)) == 1


def test_a_worker_that_dies_leaves_the_comparison_to_another_one(books: Books) -> None:
    def dies() -> Catalogue:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        compare_rates(engine=books.service.engine, read=dies, every=DAY, now=NOW)
    assert compare(books, catalogue(), NOW + timedelta(hours=1)) is None
    assert compare(books, catalogue(), NOW + timedelta(hours=2)) is not None


def test_a_change_that_was_open_before_is_not_new_and_one_that_comes_beside_it_is(books: Books) -> None:
    new = []
    for day, models in enumerate([(OPUS,), (OPUS,), (OPUS, SONNET), (SONNET,), (), (SONNET,)]):
        found = compare(books, catalogue(*models), NOW + day * DAY)
        assert found is not None
        new.append(found.is_new)
    assert new == [True, False, True, False, False, True]


def test_in_the_next_month_the_difference_is_that_of_the_month_that_is_over(books: Books) -> None:
    use(books, "october")
    use(books, "november", at=NOW - DAY)
    use(books, "november-too", at=NOW - DAY)
    compare(books, catalogue(OPUS))
    (october,) = open_changes(books)
    found = compare(books, catalogue(OPUS), datetime(2026, 12, 1, 6, tzinfo=UTC))
    (november,) = open_changes(books)
    assert (october.usd_cents, november.usd_cents) == (10, 20)
    assert found is not None
    assert not found.is_new


def test_an_import_closes_what_it_imports_and_the_new_price_is_in_force(books: Books) -> None:
    compare(books, catalogue(OPUS, SONNET))
    engine = books.service.engine
    imported = import_rates(
        engine=engine, catalogue=catalogue(OPUS, SONNET), now=NOW, only=Only(model="claude-opus-4-7")
    )
    assert [change.card.model for change in imported.changes] == ["claude-opus-4-7"]
    assert [each.model for each in open_changes(books)] == ["claude-sonnet-4-5"]
    use(books, "a", at=NOW + DAY)
    assert books.check_totals() == 20
    again = compare(books, catalogue(OPUS, SONNET), NOW + DAY)
    assert again is not None
    assert [change.model for change in again.changes] == ["claude-sonnet-4-5"]
    assert not again.is_new


def test_a_price_that_is_kept_is_not_offered_again_until_the_catalogue_changes_it_once_more(books: Books) -> None:
    engine = books.service.engine
    compare(books, catalogue(OPUS))
    kept = keep_rates(engine=engine, catalogue=catalogue(OPUS), now=NOW, kept_by="test")
    assert [change.card.model for change in kept.changes] == ["claude-opus-4-7"]
    assert open_changes(books) == []
    tomorrow = compare(books, catalogue(OPUS), NOW + DAY)
    assert tomorrow is not None
    assert tomorrow.changes == []
    plan = import_rates(engine=engine, catalogue=catalogue(OPUS), now=NOW + DAY)
    assert (plan.changes, plan.kept) == ([], 1)
    other = compare(books, catalogue(OPUS, factor=3, source="genai-prices 0.2.5"), NOW + 2 * DAY)
    assert other is not None
    assert (len(other.changes), other.is_new) == (1, True)
    use(books, "a", at=NOW + 3 * DAY)
    assert books.check_totals() == 10


def test_a_price_that_changes_on_a_later_date_is_found_before_it_does(books: Books) -> None:
    use(books, "a")
    later = datetime(2027, 1, 1, tzinfo=UTC)
    opus = opus_card()
    dated = replace(times(opus, 3), effective_from=later)
    whole = catalogue()
    found = compare(books, replace(whole, cards=[*whole.cards, dated]))
    assert found is not None
    (change,) = open_changes(books)
    assert (change.starts_at, change.usd_cents, change.would_cost_usd_cents) == (later, 10, 30)


def test_a_new_model_and_a_correction_of_the_past_change_no_price(books: Books) -> None:
    whole = catalogue()
    opus = opus_card()
    new = replace(opus, model="claude-nova-9", rate_card_id="rc_new")
    past = replace(times(opus, 5), effective_from=datetime(2025, 1, 1, tzinfo=UTC))
    found = compare(books, replace(whole, cards=[*whole.cards, new, past]))
    assert found is not None
    assert found.changes == []


def test_a_markup_is_in_both_amounts_and_a_customers_own_price_is_not_affected(books: Books) -> None:
    engine = books.service.engine
    set_markup(
        engine=engine,
        customer_id="marked",
        percent=Decimal(50),
        effective_from=OCTOBER,
        set_by="test",
        now=RECEIVED,
    )
    own = [Rate(kind=kind, usd_per_million=Decimal(1)) for kind in (UsageKind.INPUT, UsageKind.OUTPUT)]
    set_rate(
        engine=engine,
        provider="anthropic",
        model="claude-opus-4-7",
        effective_from=OCTOBER,
        rates=own,
        set_by="test",
        now=RECEIVED,
        customer_id="own",
    )
    for customer_id in ("marked", "own", "plain"):
        use(books, customer_id, customer_id=customer_id)
    compare(books, catalogue(OPUS))
    assert costs(books) == {
        ("marked", 1, 0, Decimal(15), Decimal(30)),
        ("plain", 1, 0, Decimal(10), Decimal(20)),
    }


def test_usage_that_the_new_price_does_not_price_is_counted_apart(books: Books) -> None:
    use(books, "a")
    use(books, "b", usage=Usage(input_tokens=10_000, output_tokens=0))
    opus = opus_card()
    input_only = replace(opus, rates=tuple(rate for rate in opus.rates if rate.kind.value == "input"))
    (cost,) = simulate_rates(engine=books.service.engine, period=BillingPeriod(2026, 10), cards={OPUS: input_only})
    assert (cost.stream_count, cost.unpriced, cost.usd_cents, cost.difference_usd_cents) == (1, 1, 5, 0)


def test_an_adjusted_stream_counts_with_its_newest_bill(books: Books) -> None:
    later = RECEIVED + timedelta(minutes=2)
    for output, source in ((1_000, UsageSource.GATEWAY_COUNT), (2_000, UsageSource.PROVIDER)):
        usage = Usage(input_tokens=10_000, output_tokens=output)
        books.receive(
            [start("a", time=OCTOBER), end("a", time=OCTOBER, usage=usage, usage_source=source)], at=later
        )
        books.finalize(now=later)
    cards = {OPUS: times(opus_card(), 2)}
    (cost,) = simulate_rates(engine=books.service.engine, period=BillingPeriod(2026, 10), cards=cards)
    assert (cost.stream_count, cost.usd_cents, cost.would_cost_usd_cents) == (1, 10, 20)
    assert books.check_totals() == 10


def test_the_state_of_the_comparison_is_measured(books: Books) -> None:
    def health() -> tuple[int, datetime | None]:
        with transaction(books.service.engine) as connection:
            found = comparison_health(connection)
        return found.open_changes, found.compared_at

    assert health() == (0, None)
    compare(books, catalogue(OPUS, SONNET))
    assert health() == (2, NOW)


def test_last_month_is_the_month_before_in_utc() -> None:
    assert str(last_month(datetime(2026, 12, 1, tzinfo=UTC))) == "2026-11"
    assert str(last_month(datetime(2026, 11, 30, 23, 59, tzinfo=UTC))) == "2026-10"

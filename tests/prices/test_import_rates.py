"""Importing rates: idempotent, dated, and never a change of what was in force."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import Engine

from metering.db.engine import transaction
from metering.events.usage import UsageKind
from metering.prices.catalogue import Catalogue, read_catalogue
from metering.prices.import_rates import import_rates
from metering.prices.rate_book import CardMatch, RateBook
from metering.prices.rates import ALWAYS, Rate, RateCard
from metering.prices.read_prices import read_prices
from metering.prices.set_rate import set_rate
from metering.prices.store.book import load_price_book
from metering.prices.store.cards import load_rate_cards

NOW = datetime(2026, 11, 23, tzinfo=UTC)
LATER = datetime(2026, 12, 24, tzinfo=UTC)
CATALOGUE = read_catalogue()


def catalogue(*cards: RateCard) -> Catalogue:
    return Catalogue(source="test 1", cards=cards, providers=CATALOGUE.providers, omissions=())


def some_card() -> RateCard:
    return next(
        card for card in CATALOGUE.cards if (card.provider, card.model) == ("anthropic", "claude-opus-4-7")
    )


def book(engine: Engine) -> RateBook:
    with transaction(engine) as connection:
        return load_price_book(connection).rates


def input_price(found: CardMatch | None, at: datetime = NOW) -> Decimal:
    assert found is not None
    return found.card.rates_for(input_tokens=1, service_tier=None, at=at)[UsageKind.INPUT].usd_per_million


def dearer(card: RateCard, factor: int) -> RateCard:
    rates = tuple(replace(rate, usd_per_million=rate.usd_per_million * factor) for rate in card.rates)
    return replace(card, rates=rates, rate_card_id=f"{card.rate_card_id}x{factor}")


def test_a_price_by_the_hour_of_the_day_is_a_rate_for_each_stretch_of_it(engine: Engine) -> None:
    import_rates(engine=engine, catalogue=CATALOGUE, now=NOW)
    for clock, usd in (((0, 29), "0.135"), ((0, 30), "0.27"), ((16, 29), "0.27"), ((16, 30), "0.135")):
        at = NOW.replace(hour=clock[0], minute=clock[1])
        assert input_price(book(engine).find(provider="deepseek", model="deepseek-chat", at=at), at) == Decimal(
            usd
        )


def test_importing_the_same_again_adds_nothing(engine: Engine) -> None:
    first = import_rates(engine=engine, catalogue=CATALOGUE, now=NOW)
    assert len(first.changes) == len(CATALOGUE.cards)
    again = import_rates(engine=engine, catalogue=CATALOGUE, now=LATER)
    assert (again.changes, again.providers) == ([], ())


def test_a_changed_price_takes_effect_from_the_import_and_not_before(engine: Engine) -> None:
    card = some_card()
    import_rates(engine=engine, catalogue=catalogue(card), now=NOW)
    changed = catalogue(dearer(card, 2))
    assert len(import_rates(engine=engine, catalogue=changed, now=LATER).changes) == 1
    assert not import_rates(engine=engine, catalogue=changed, now=LATER).changes
    rates = book(engine)
    before = rates.find(provider="anthropic", model="claude-opus-4.7", at=LATER.replace(day=23))
    after = rates.find(provider="anthropic", model="claude-opus-4.7", at=LATER)
    assert (input_price(before), input_price(after)) == (5, 10)


def at_5_then_6_then_5(engine: Engine) -> list[Decimal]:
    """The price after each of three imports, with the catalogue's price of the same date going up and down."""
    card, found = some_card(), []
    for day, cards in enumerate(([card], [dearer(card, 2)], [card]), start=1):
        at = NOW.replace(day=day)
        import_rates(engine=engine, catalogue=catalogue(*cards), now=at)
        found.append(input_price(book(engine).find(provider="anthropic", model="claude-opus-4.7", at=at)))
    return found


def test_a_price_that_goes_back_to_what_it_was_is_a_change_too(engine: Engine) -> None:
    assert at_5_then_6_then_5(engine) == [5, 10, 5]


def test_the_current_price_is_compared_although_a_later_one_is_dated_already(engine: Engine) -> None:
    card = some_card()
    dated = replace(dearer(card, 3), effective_from=datetime(2027, 1, 1, tzinfo=UTC))
    import_rates(engine=engine, catalogue=catalogue(card, dated), now=NOW)
    (change,) = import_rates(engine=engine, catalogue=catalogue(dearer(card, 2), dated), now=LATER).changes
    assert (change.card.effective_from, change.instead_of) == (LATER, card)
    rates = book(engine)
    assert input_price(rates.find(provider="anthropic", model="claude-opus-4.7", at=LATER)) == 10
    assert input_price(rates.find(provider="anthropic", model="claude-opus-4.7", at=dated.effective_from)) == 15


def test_a_price_that_a_person_set_stays_until_the_catalogues_own_price_changes(engine: Engine) -> None:
    card = some_card()
    import_rates(engine=engine, catalogue=catalogue(card), now=NOW)
    by_hand = Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(4))
    set_rate(
        engine=engine,
        provider="anthropic",
        model="claude-opus-4-7",
        effective_from=NOW.replace(day=24),
        rates=[by_hand],
        set_by="test",
        now=NOW,
    )
    assert not import_rates(engine=engine, catalogue=catalogue(card), now=LATER).changes
    (change,) = import_rates(engine=engine, catalogue=catalogue(dearer(card, 2)), now=LATER).changes
    assert change.instead_of is not None
    assert change.instead_of.rates == (by_hand,)


def test_an_own_price_is_stored_with_its_source(engine: Engine) -> None:
    import_rates(engine=engine, catalogue=read_prices(), now=NOW)
    with transaction(engine) as connection:
        stored = {each.card.rate_card_id: each.provenance for each in load_rate_cards(connection)}
    found = book(engine).find(provider="deepseek", model="deepseek-flash", at=NOW)
    assert found is not None
    assert stored[found.card.rate_card_id] == (
        "own, instead of genai-prices 0.2.3: https://api-docs.deepseek.com/quick_start/pricing"
    )
    saturday = datetime(2026, 11, 28, 2, tzinfo=UTC)
    assert input_price(found, saturday) == Decimal("0.15")
    assert input_price(found, saturday.replace(day=27)) == Decimal("0.3")
    assert not import_rates(engine=engine, catalogue=read_prices(), now=LATER).changes


def test_a_price_that_the_catalogue_dates_takes_effect_on_that_date(engine: Engine) -> None:
    card = some_card()
    dated = replace(dearer(card, 3), effective_from=datetime(2027, 1, 1, tzinfo=UTC))
    import_rates(engine=engine, catalogue=catalogue(card, dated), now=NOW)
    rates = book(engine)
    for at, usd in ((ALWAYS, 5), (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), 5), (dated.effective_from, 15)):
        assert input_price(rates.find(provider="anthropic", model="claude-opus-4.7", at=at)) == usd

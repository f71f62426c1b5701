"""Importing rates: idempotent, dated, and never a change of what was in force."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import Engine

from metering.catalogue.genai import ALWAYS, Catalogue, read_catalogue
from metering.domain.rates import RateBook, RateCard
from metering.domain.usage import UsageKind
from metering.operations.import_rates import import_rates
from metering.store.engine import transaction
from metering.store.rates import RateBooks

NOW = datetime(2026, 11, 23, tzinfo=UTC)
LATER = datetime(2026, 12, 24, tzinfo=UTC)
CATALOGUE = read_catalogue()


def catalogue(*cards: RateCard) -> Catalogue:
    return Catalogue(source="test 1", cards=cards, omissions=())


def some_card() -> RateCard:
    return next(
        card for card in CATALOGUE.cards if (card.provider, card.model) == ("anthropic", "claude-opus-4-7")
    )


def book(engine: Engine) -> RateBook:
    with transaction(engine) as connection:
        return RateBooks().current(connection)


def input_price(found: RateCard | None) -> Decimal:
    assert found is not None
    rate = found.rates_for(input_tokens=1)[UsageKind.INPUT]
    assert rate is not None
    return rate.usd_per_million


def dearer(card: RateCard, factor: int) -> RateCard:
    rates = tuple(replace(rate, usd_per_million=rate.usd_per_million * factor) for rate in card.rates)
    return replace(card, rates=rates, rate_card_id=f"{card.rate_card_id}x{factor}")


@pytest.mark.parametrize(
    ("provider", "name", "model", "usd"),
    [
        ("anthropic", "claude-opus-4.7", "claude-opus-4-7", 5),
        ("anthropic", "anthropic/claude-opus-4.7", "claude-opus-4-7", 5),
        ("Anthropic", "Claude-Opus-4.7", "claude-opus-4-7", 5),
        ("openai", "gpt-5.5-pro", "gpt-5.5-pro", 30),
        ("openai", "gpt-5.5-pro-2026-04-23", "gpt-5.5-pro", 30),
    ],
)
def test_models_resolve_as_they_are_written(provider: str, name: str, model: str, usd: int) -> None:
    found = RateBook(CATALOGUE.cards).find(provider=provider, model=name, at=NOW)
    assert found is not None
    assert found.model == model
    assert input_price(found) == usd


def test_what_the_catalogue_prices_by_the_hour_of_the_day_is_left_out_by_name() -> None:
    skipped = {omission.model: omission.reason for omission in CATALOGUE.omissions if omission.skipped}
    assert skipped["deepseek-chat"] == "its price depends on the time of day"
    assert RateBook(CATALOGUE.cards).find(provider="deepseek", model="deepseek-chat", at=NOW) is None


def test_importing_the_same_again_adds_nothing(engine: Engine) -> None:
    first = import_rates(engine=engine, catalogue=CATALOGUE, now=NOW)
    assert len(first.added) == len(CATALOGUE.cards)
    assert not import_rates(engine=engine, catalogue=CATALOGUE, now=LATER).added


def test_a_changed_price_takes_effect_from_the_import_and_not_before(engine: Engine) -> None:
    card = some_card()
    import_rates(engine=engine, catalogue=catalogue(card), now=NOW)
    changed = catalogue(dearer(card, 2))
    assert len(import_rates(engine=engine, catalogue=changed, now=LATER).added) == 1
    assert not import_rates(engine=engine, catalogue=changed, now=LATER).added
    rates = book(engine)
    before = rates.find(provider="anthropic", model="claude-opus-4.7", at=LATER.replace(day=23))
    after = rates.find(provider="anthropic", model="claude-opus-4.7", at=LATER)
    assert (input_price(before), input_price(after)) == (5, 10)


def test_a_price_that_the_catalogue_dates_takes_effect_on_that_date(engine: Engine) -> None:
    card = some_card()
    dated = replace(dearer(card, 3), effective_from=datetime(2027, 1, 1, tzinfo=UTC))
    import_rates(engine=engine, catalogue=catalogue(card, dated), now=NOW)
    rates = book(engine)
    for at, usd in ((ALWAYS, 5), (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), 5), (dated.effective_from, 15)):
        assert input_price(rates.find(provider="anthropic", model="claude-opus-4.7", at=at)) == usd

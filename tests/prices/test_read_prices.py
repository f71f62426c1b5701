"""Our own prices: what each one costs at its edges, where it comes from, and when it has to be reviewed."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from metering.core.money import cents_text, sum_cents
from metering.events.usage import Usage, UsageKind
from metering.prices.catalogue import Catalogue
from metering.prices.rate_book import RateBook
from metering.prices.rates import RateCard
from metering.prices.rating import rate_by_card
from metering.prices.read_prices import InvalidOwnPriceError, _own_price, own_prices, read_prices, with_own_prices
from tests.builders.catalogues import CATALOGUE

OWN = own_prices()
PRICES = read_prices()
BOOK = RateBook(PRICES.cards, PRICES.providers)
MILLION = Usage(input_tokens=1_000_000, output_tokens=0)


def cost(provider: str, model: str, at: str, usage: Usage = MILLION) -> str:
    """In cents."""
    moment = datetime.fromisoformat(at)
    found = BOOK.find(provider=provider, model=model, at=moment)
    assert found is not None
    lines = rate_by_card(usage=usage, card=found.card, service_tier=None, at=moment).lines
    return cents_text(sum_cents(line.usd_cents for line in lines))


@pytest.mark.parametrize(
    ("at", "cents"),
    [
        ("2026-11-13T02:00:00Z", "0.59196"),  # Friday
        ("2026-11-14T02:00:00Z", "0.29598"),  # Saturday
        ("2026-11-15T09:59:59Z", "0.29598"),  # Sunday
        ("2026-11-16T00:59:59Z", "0.29598"),
        ("2026-11-16T01:00:00Z", "0.59196"),  # Monday
        ("2026-11-16T04:00:00Z", "0.29598"),
        ("2026-11-16T06:00:00Z", "0.59196"),
        ("2026-11-16T10:00:00Z", "0.29598"),
        ("2026-09-24T02:00:00Z", "0.59196"),  # Thursday
        ("2026-09-25T02:00:00Z", "0.29598"),  # Friday, Mid-Autumn Festival
        ("2026-09-28T02:00:00Z", "0.59196"),  # Monday
        ("2026-10-01T07:00:00Z", "0.29598"),  # Thursday, National Day
        ("2026-10-07T07:00:00Z", "0.29598"),  # Wednesday, its last day
        ("2026-10-08T01:00:00Z", "0.59196"),
    ],
)
def test_deepseeks_peak_is_on_workdays_that_are_no_holiday(at: str, cents: str) -> None:
    usage = Usage(input_tokens=36_100, cache_read_input_tokens=21_600, output_tokens=1_200)
    assert cost("deepseek", "deepseek-flash", at, usage) == cents


@pytest.mark.parametrize(
    ("model", "at", "cents"),
    [
        ("deepseek-v4-flash", "2026-08-01T02:00:00Z", "14"),  # no peak hours yet
        ("deepseek-v4-flash", "2026-08-16T15:59:59.999999Z", "14"),
        ("deepseek-v4-flash", "2026-08-16T16:00:00Z", "22"),
        ("deepseek-v4-flash", "2026-08-16T20:00:00Z", "22"),
        ("deepseek-v4-flash", "2026-08-17T01:00:00Z", "44"),
        ("deepseek-v4-flash", "2026-08-22T02:00:00Z", "44"),  # the last Saturday with peak hours
        ("deepseek-v4-flash", "2026-08-23T02:00:00Z", "22"),
        ("deepseek-v4-flash", "2026-08-24T02:00:00Z", "44"),
        ("deepseek-v4-flash", "2026-09-09T23:59:59Z", "22"),
        ("deepseek-v4-flash", "2026-09-10T00:00:00Z", "15"),
        ("deepseek-v4-flash", "2026-09-10T01:00:00Z", "30"),
        ("deepseek-v4-flash-vision-exp", "2026-11-14T02:00:00Z", "15"),
        ("deepseek-v4-pro", "2026-08-16T07:00:00Z", "43.5"),
        ("deepseek-v4-pro", "2026-08-16T20:00:00Z", "66"),
        ("deepseek-v4-pro", "2026-11-13T07:00:00Z", "132"),
        ("deepseek-v4-pro", "2026-11-14T07:00:00Z", "66"),
        ("deepseek-chat", "2025-09-05T15:59:59Z", "27"),
        ("deepseek-chat", "2025-09-05T16:00:00Z", "56"),
        ("deepseek-chat", "2026-01-01T20:00:00Z", "28"),
        ("deepseek-reasoner", "2025-06-01T16:30:00Z", "13.5"),
        ("deepseek-reasoner", "2026-06-01T12:00:00Z", "14"),
    ],
)
def test_a_price_changes_at_the_hour_that_the_vendor_published(model: str, at: str, cents: str) -> None:
    assert cost("deepseek", model, at) == cents


def test_a_promotion_that_ends_at_midnight_in_beijing_ends_at_16_00_utc() -> None:
    for provider, model in (("zai", "glm-5.3-flash"), ("openrouter", "z-ai/glm-5.3-flash")):
        assert cost(provider, model, "2026-09-09T15:59:59Z") == "7.5"
        assert cost(provider, model, "2026-09-09T16:00:00Z") == "15"


@pytest.mark.parametrize(
    ("provider", "model", "usage", "cents"),
    [
        (
            "openai",
            "gpt-4o-audio-preview",
            Usage(input_tokens=17, output_tokens=592, output_audio_tokens=482),
            "3.97025",
        ),
        (
            "openai",
            "gpt-4o-audio-preview-2025-06-03",
            Usage(input_tokens=1000, input_audio_tokens=1000),
            "4",
        ),
        (
            "openai",
            "gpt-4o-audio-preview-2024-10-01",
            Usage(input_tokens=1000, input_audio_tokens=1000),
            "10",
        ),
        (
            "openai",
            "gpt-4o-mini-audio-preview-2024-12-17",
            Usage(input_tokens=0, output_tokens=1000, output_audio_tokens=900),
            "1.806",
        ),
        (
            "openrouter",
            "openai/gpt-audio",
            Usage(input_tokens=0, output_tokens=1000, output_audio_tokens=900),
            "5.86",
        ),
        (
            "google",
            "gemini-2.5-flash-preview-tts",
            Usage(input_tokens=100, output_tokens=1000, output_audio_tokens=1000),
            "1.005",
        ),
        ("openrouter", "stepfun/step-3.5-flash:free", Usage(input_tokens=12345, output_tokens=678), "0"),
        (
            "openrouter",
            "google/an-image-model:free",
            Usage(input_tokens=20, input_image_tokens=10, output_tokens=1290, output_image_tokens=1290),
            "0",
        ),
    ],
)
def test_audio_has_its_own_price_where_the_vendor_publishes_one(
    provider: str, model: str, usage: Usage, cents: str
) -> None:
    assert cost(provider, model, "2026-11-23T12:00:00Z", usage) == cents


def test_a_card_says_that_it_is_ours_and_where_its_price_is_published() -> None:
    own = {(each.provider, each.model): each for each in OWN}
    seen = 0
    for card in PRICES.cards:
        price = own.get((card.provider, card.model))
        if price is None:
            assert PRICES.provenance(card) == CATALOGUE.source
            continue
        seen += 1
        relation = "instead of" if price.catalogue else "beside"
        assert PRICES.provenance(card) == f"own, {relation} genai-prices 0.2.3: {price.source}"
        assert price.source.startswith("https://")
    assert seen > 40


def test_nothing_else_of_the_catalogue_changes() -> None:
    own = {(each.provider, each.model) for each in OWN}

    def others(cards: Sequence[RateCard]) -> list[RateCard]:
        return [card for card in cards if (card.provider, card.model) not in own]

    assert others(PRICES.cards) == others(CATALOGUE.cards)


def test_every_own_price_was_compared_with_the_installed_catalogue() -> None:
    assert [each for each in PRICES.reviews if each.finding] == []
    assert {each.reviewed for each in OWN} == {CATALOGUE.source}


def edited(model: str, *cards: RateCard) -> Catalogue:
    """The catalogue with other cards for a model."""
    return replace(CATALOGUE, cards=[*(card for card in CATALOGUE.cards if card.model != model), *cards])


def findings(catalogue: Catalogue, today: date = date(2026, 11, 29)) -> dict[str, str | None]:
    return {each.model: due for each in with_own_prices(catalogue, OWN).reviews if (due := each.due(today=today))}


def test_a_correction_with_which_the_catalogue_has_caught_up_is_named() -> None:
    ours = [card for card in PRICES.cards if card.model == "gpt-4o-audio-preview"]
    caught_up = findings(edited("gpt-4o-audio-preview", *ours))
    assert caught_up == {"gpt-4o-audio-preview": "the catalogue has caught up: remove the own price"}


def test_a_price_that_the_catalogue_changed_since_is_named_and_ours_stays() -> None:
    (theirs,) = [card for card in CATALOGUE.cards if card.model == "gpt-4o-audio-preview"]
    changed = edited("gpt-4o-audio-preview", replace(theirs, rates=theirs.rates[:1], rate_card_id="rc_other"))
    (found,) = findings(changed).values()
    assert found is not None
    assert re.fullmatch(r"the catalogue has changed since genai-prices 0\.2\.3 \(digest [0-9a-f]{24}\)", found)
    kept = with_own_prices(changed, OWN)
    ours = next(card for card in kept.cards if card.model == "gpt-4o-audio-preview")
    assert {rate.kind for rate in ours.rates} >= {UsageKind.OUTPUT_AUDIO}


def test_a_model_that_the_catalogue_dropped_keeps_our_price_and_is_named() -> None:
    dropped = edited("gpt-4o-audio-preview")
    assert findings(dropped) == {"gpt-4o-audio-preview": "the catalogue does not have this model any more"}
    assert any(card.model == "gpt-4o-audio-preview" for card in with_own_prices(dropped, OWN).cards)


def test_prices_that_are_known_until_a_date_are_named_after_it() -> None:
    assert findings(CATALOGUE) == {}
    later = findings(CATALOGUE, date(2027, 1, 1))
    assert later["deepseek-flash"] == "its prices are known until 2026-12-31 only"
    assert set(later) == {"deepseek-flash", "deepseek-v4-flash", "deepseek-v4-pro"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prices": {"a": ["input=x"]}}, "0 or more"),
        ({"periods": [{"from": datetime(2026, 1, 1, tzinfo=UTC), "prices": "b"}]}, "'b'"),
        ({"prices": {"a": ["output=1"]}}, "without conditions for input"),
        ({"same_price": {"mood": "output"}}, "mood"),
    ],
)
def test_an_entry_that_cannot_be_read_is_named(change: dict[str, object], message: str) -> None:
    entry = {"provider": "p", "model": "m", "source": "https://x", "reviewed": "r", "prices": {"a": ["input=1"]}}
    assert _own_price(entry).model == "m"
    with pytest.raises(InvalidOwnPriceError) as refused:
        _own_price({**entry, **change})
    assert "p/m" in str(refused.value)
    assert message in str(refused.value)


def test_a_kind_that_costs_the_same_as_another_has_its_rates_in_every_card() -> None:
    tts = [card for card in PRICES.cards if card.model == "gemini-3.8-flash-tts"]
    assert len(tts) == 3
    for card in tts:
        of_kind = {
            kind: {(rate.service_tier, rate.usd_per_million) for rate in card.rates if rate.kind is kind}
            for kind in (UsageKind.OUTPUT, UsageKind.OUTPUT_AUDIO)
        }
        assert of_kind[UsageKind.OUTPUT] == of_kind[UsageKind.OUTPUT_AUDIO]
    assert ("priority", Decimal("32.4")) in of_kind[UsageKind.OUTPUT_AUDIO]

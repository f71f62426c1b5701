"""Names as gateways write them: which card each leads to, by which rule, and why some lead to none."""

from datetime import UTC, datetime
from itertools import product

import pytest

from metering.core.money import cents_text, sum_cents
from metering.events.usage import Usage
from metering.prices.model_names import names_in
from metering.prices.rate_book import CardMatch, RateBook
from metering.prices.rates import RateCard
from metering.prices.rating import rate_by_card
from metering.prices.readings import all_readings, readings
from tests.builders.catalogues import CATALOGUE, PRICES

AT = datetime(2026, 11, 23, tzinfo=UTC)
BOOK = RateBook(PRICES.cards, PRICES.providers)
USAGE = Usage(input_tokens=12_345, output_tokens=678)


def find(provider: str, model: str, book: RateBook = BOOK) -> CardMatch | None:
    return book.find(provider=provider, model=model, at=AT)


def cost(provider: str, model: str) -> str:
    found = find(provider, model)
    assert found is not None, model
    lines = rate_by_card(usage=USAGE, card=found.card, service_tier=None, at=AT).lines
    return cents_text(sum_cents(line.usd_cents for line in lines))


@pytest.mark.parametrize(
    ("provider", "model", "cents", "rule"),
    [
        (
            "openrouter",
            "openai/gpt-4o:nitro",
            "3.76425",
            "openrouter/openai/gpt-4o equals openai/gpt-4o (without :nitro, which only routes)",
        ),
        (
            "litellm",
            "openrouter/openai/gpt-4o:floor",
            "3.76425",
            "openrouter/openai/gpt-4o equals openai/gpt-4o (without :floor, which only routes)",
        ),
        (
            "openrouter",
            "stepfun/step-3.5-flash:free",
            "0",
            "openrouter/stepfun/step-3.5-flash:free ends_with :free",
        ),
        (
            "openrouter",
            "nobody/has-this:free:nitro",
            "0",
            "openrouter/nobody/has-this:free ends_with :free (without :nitro, which only routes)",
        ),
        ("openai", " gpt-4o ", "3.76425", "openai/gpt-4o equals gpt-4o"),
        (" OpenAI\t", "\nGPT-4O", "3.76425", "openai/gpt-4o equals gpt-4o"),
        ("openai", "gpt-4o-latest", "3.76425", "openai/gpt-4o equals gpt-4o (without -latest)"),
        ("azure", "gpt-4o-2024-08-06", "3.76425", "openai/gpt-4o-2024-08-06 equals gpt-4o-2024-08-06"),
        ("azure_ai", "gpt-4o", "3.76425", "openai/gpt-4o equals gpt-4o"),
        ("azure.ai.inference", "gpt-4o", "3.76425", "openai/gpt-4o equals gpt-4o"),
    ],
)
def test_a_spelling_that_does_not_change_the_price_leads_to_the_models_card(
    provider: str, model: str, cents: str, rule: str
) -> None:
    assert cost(provider, model) == cents
    found = find(provider, model)
    assert found is not None
    assert found.rule == rule


@pytest.mark.parametrize(
    ("provider", "model", "as_"),
    [
        ("google", "models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("vertex_ai", "publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("vertex_ai", "projects/p/locations/eu/publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("vertex_ai", "gemini-2.5-flash-lite-preview-tts@default", "gemini-2.5-flash-lite-preview-tts"),
        ("google", "models/gemini-2.5-flash-image@default", "gemini-2.5-flash-image"),
        ("vertex_ai", "claude-opus-4-7@default", "claude-opus-4-7"),
        ("vertex_ai", "claude-opus-4-5@20251101", "claude-opus-4-5"),
        ("vertex_ai", "gemini-embedding-001@001", "gemini-embedding-001"),
        ("bedrock", "us.anthropic.claude-opus-4-7-v1:0", "anthropic.claude-opus-4-7-v1:0"),
        ("bedrock", "apac.anthropic.claude-sonnet-4-20250514-v1:0", "anthropic.claude-sonnet-4-20250514-v1:0"),
        ("bedrock", "us-east-1/anthropic.claude-opus-4-7-v1:0", "anthropic.claude-opus-4-7-v1:0"),
        ("bedrock", "converse/eu-west-3/mistral.mistral-7b-instruct-v0:2", "mistral.mistral-7b-instruct-v0:2"),
        ("bedrock", "apac.anthropic.claude-opus-5", "anthropic.claude-opus-5"),
        ("bedrock", "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/jp.anthropic.claude-opus-5",
         "anthropic.claude-opus-5"),
        ("bedrock", "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-opus-5",
         "anthropic.claude-opus-5"),
        ("bedrock", "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/moonshotai.kimi-k3",
         "moonshotai.kimi-k3"),
    ],
)  # fmt: skip
def test_a_path_a_region_or_a_version_in_front_or_behind_leads_to_the_same_card(
    provider: str, model: str, as_: str
) -> None:
    found, plain = find(provider, model), find(provider, as_)
    assert found is not None
    assert plain is not None
    assert found.card == plain.card


def test_a_global_profile_has_the_price_of_global_ones_and_never_that_of_a_region() -> None:
    for model in ("anthropic.claude-opus-4-7-v1:0", "anthropic.claude-opus-5", "anthropic.claude-sonnet-5"):
        found, region = find("bedrock", f"global.{model}"), find("bedrock", f"eu.{model}")
        assert found is not None
        assert region is not None
        assert (found.card.model.split(".")[0], region.card.model.split(".")[0]) == ("global", "regional")
    assert find("bedrock", "global.moonshotai.kimi-k2-thinking") is None
    assert find("bedrock", "us-gov.moonshotai.kimi-k3") is None


@pytest.mark.parametrize(
    ("provider", "model", "why"),
    [
        ("openai", "ft:gpt-4.1-2025-04-14:acme::x", "it is a fine-tuned model; the nearest is openai/gpt-4.1"),
        ("azure", "gpt-4.1-2025-04-14.ft-7c2", "it is a fine-tuned model; the nearest is openai/gpt-4.1"),
        ("google", "tunedModels/gemini-2.5-pro-acme-1", "a tuned model; the nearest is google/gemini-2.5-pro"),
        ("vertex_ai", "projects/1/locations/eu/endpoints/77", "it is a tuned model; set its rate"),
        ("openrouter", "openai/gpt-4o:online", ":online: it adds web searches, which have a price of their own"),
        ("openrouter", "openai/gpt-4o:online:nitro", ":online: it adds web searches"),
        ("openrouter", "anthropic/claude-opus-4.8:thinking", ":thinking: OpenRouter lists it with a price"),
        ("openrouter", "openai/gpt-4.1:extended", ":extended: OpenRouter lists it with a price of its own"),
        ("openrouter", "x-ai/grok-4:batch", ":batch: OpenRouter lists it with a price of its own"),
        ("azure", "eu/gpt-4o-2024-08-06", "a regional deployment has a price of its own"),
        ("azure", "my-gpt-4o-in-sweden", "no rate card has this name; the nearest is openai/gpt-4o"),
        ("bedrock", "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", "does not name its model"),
        ("bedrock", "arn:aws:bedrock:us-east-1:1:provisioned-model/abc", "provisioned-model has a price"),
        ("bedrock", "arn:aws:bedrock:us-east-1:1:custom-model/anthropic.claude-3-haiku-20240307-v1:0:200k/abc",
         "a Bedrock custom-model has a price of its own"),
        ("litellm", "gpt-4o", "write the model with its provider, such as openai/gpt-4o"),
        ("nowhere", "gpt-4o", "provider nowhere has no rates"),
        ("anthropic", "claud-opus-4-7", "the nearest is anthropic/claude-opus-4-7"),
        ("openai", "zzz", "no rate card has this name"),
        ("openai", "x" * 100_000, "no rate card has this name"),
    ],
)  # fmt: skip
def test_what_stays_unpriced_says_why_and_names_the_nearest_model(provider: str, model: str, why: str) -> None:
    assert find(provider, model) is None
    assert why in BOOK.explain(provider=provider, model=model, at=AT)


def test_a_model_before_its_first_rate_says_from_when_it_has_one() -> None:
    card = RateCard(
        rate_card_id="rc",
        provider="house",
        model="own",
        effective_from=AT,
        rates=PRICES.cards[0].rates,
        names={"equals": "own"},
    )
    early = RateBook([card]).explain(provider="house", model="own", at=datetime(2026, 1, 1, tzinfo=UTC))
    assert early == "its first rate is in force from 2026-11-23T00:00:00+00:00"


def test_a_card_that_was_set_for_a_custom_model_prices_it() -> None:
    arn = "arn:aws:bedrock:us-east-1:1:custom-model/anthropic.claude-3-haiku-20240307-v1:0:200k/abc"
    by_hand = RateCard(
        rate_card_id="rc",
        provider="aws",
        model=arn,
        effective_from=AT,
        rates=PRICES.cards[0].rates,
        names={"equals": arn},
    )
    found = find("bedrock", arn, RateBook([*PRICES.cards, by_hand], PRICES.providers))
    assert found is not None
    assert found.card is by_hand


NAMES = sorted(
    {
        (card.provider, name.lower())
        for card in CATALOGUE.cards
        for place, written in enumerate((*names_in(card.names), card.model))
        for name in (written, *((f"{written}-20260131", f"{written}-latest") if place == 0 else ()))
    }
)


class _WithoutReadings(RateBook):
    """A rate book that knows names as they are written only."""

    def _candidates(self, provider: str, model: str):  # type: ignore[no-untyped-def]
        return (each for each in super()._candidates(provider, model) if not each.because)


def test_no_name_that_the_catalogue_knows_changes_its_card() -> None:
    catalogue = _WithoutReadings(CATALOGUE.cards, CATALOGUE.providers)
    known = 0
    for provider, name in NAMES:
        was, found = find(provider, name, catalogue), find(provider, name)
        if was is not None:
            assert found is not None, name
            own_name = found.card.model == "gpt-4o-audio-preview-2024-10-01"
            assert own_name or (found.card.model, found.rule) == (was.card.model, was.rule), name
            known += 1
        elif found is not None:
            assert found.card.model == "*:free" or found.rule.endswith(" (without -latest)"), name
    assert known > 3_500


@pytest.mark.parametrize(
    ("provider", "form"),
    [
        ("openrouter", "{}:nitro"),
        ("openrouter", "{}:floor"),
        ("openrouter", "{}:exacto"),
        ("google", "models/{}"),
        ("google", "publishers/google/models/{}"),
        ("google", "{}@default"),
        ("aws", "us-west-2/{}"),
        ("aws", "arn:aws:bedrock:us-west-2::foundation-model/{}"),
        ("aws", "arn:aws:bedrock:us-west-2:123456789012:inference-profile/{}"),
    ],
)
def test_every_model_has_the_same_card_in_every_form_or_none(provider: str, form: str) -> None:
    same = 0
    for card in PRICES.cards:
        if card.provider != provider:
            continue
        for name in {card.model, *names_in(card.names)}:
            plain, found = find(provider, name), find(provider, form.format(name))
            if plain is not None and found is not None:
                assert found.card.model == plain.card.model, (name, found.rule)
                same += 1
    assert same > 50


def test_a_reading_of_a_name_is_the_same_without_knowing_the_provider() -> None:
    for provider, name in product(
        ("openrouter", "google", "aws", "openai"), ("a/b:nitro", "models/x", "us.a.b", "x-latest")
    ):
        for reading in readings(name, provider=provider):
            assert reading in list(all_readings(name))

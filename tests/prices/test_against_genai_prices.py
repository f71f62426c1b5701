"""Every model of the catalogue, rated here and by genai-prices itself: equal to the last digit, or listed by name.

The catalogue's own code divides by a million at Python's usual 28 digits, which is exact for these sizes.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint
from genai_prices.types import Provider as TheirProvider
from genai_prices.types import Usage as TheirUsage
from msgspec import structs

from metering.core.money import sum_cents
from metering.events.nesting import input_size
from metering.events.usage import COUNTER_OF_KIND, TIMED_KINDS, Usage, UsageKind
from metering.prices.catalogue import _unread_conditions
from metering.prices.rate_book import RateBook
from metering.prices.rates import RateCard
from metering.prices.rating import RateMissingError, rate_usage
from tests.builders.catalogues import CATALOGUE

pytestmark = pytest.mark.long

CARDS: dict[tuple[str, str], list[RateCard]] = {}
for each in CATALOGUE.cards:
    CARDS.setdefault((each.provider, each.model), []).append(each)
BOOK = RateBook(CATALOGUE.cards, CATALOGUE.providers)
NAMED_WITHOUT_OUTPUT = {
    (omission.provider, omission.model)
    for omission in CATALOGUE.omissions
    if omission.reason.startswith("no price for output")
}
SKIPPED = {(omission.provider, omission.model) for omission in CATALOGUE.omissions if omission.skipped}

TIERS = (None, "default", "flex", "priority", "fast", "batch", "standard")
MIDNIGHT_TO_NOON = (timedelta(0), timedelta(minutes=30), timedelta(hours=3, minutes=59, seconds=59),
                    timedelta(hours=4), timedelta(hours=12), timedelta(hours=16, minutes=30))  # fmt: skip


@dataclass(frozen=True)
class Model:
    provider: TheirProvider
    info: ModelInfo

    @property
    def key(self) -> tuple[str, str]:
        return (self.provider.id, self.info.id)


MODELS = [Model(provider, info) for provider in get_snapshot().providers for info in provider.models]


def usages(size: int, kinds: frozenset[UsageKind]) -> Iterator[Usage]:
    """One usage of each shape that the contract can express; of measures beside tokens, those that are priced."""
    plain = Usage(input_tokens=size, output_tokens=317)
    yield plain
    yield structs.replace(plain, output_tokens=0)
    yield structs.replace(plain, cache_read_input_tokens=size // 2)
    yield structs.replace(
        plain,
        cache_read_input_tokens=size // 3,
        cache_write_input_tokens=size // 5,
        reasoning_output_tokens=111,
    )
    yield structs.replace(
        plain,
        cache_write_input_tokens=size // 2,
        cache_write_1h_input_tokens=size // 3,
        citation_output_tokens=9,
    )
    yield structs.replace(
        plain,
        input_audio_tokens=size // 3,
        input_image_tokens=size // 4,
        input_video_tokens=size // 7,
        cache_read_input_tokens=size // 5,
        cache_read_input_audio_tokens=size // 7 if UsageKind.CACHE_READ_AUDIO in kinds else 0,
        cache_read_input_image_tokens=size // 19 if UsageKind.CACHE_READ_IMAGE in kinds else 0,
    )
    for kind in OUTPUT_MEDIA:
        yield structs.replace(plain, **{COUNTER_OF_KIND[kind]: 100})
    for kind in OTHER_MEASURES & kinds:
        # Thousandths of an hour and a multiple of 9 seconds: the catalogue's amount ends within 28 digits.
        yield structs.replace(
            plain, **{COUNTER_OF_KIND[kind]: Decimal(36) * size if kind in TIMED_KINDS else size}
        )


OUTPUT_MEDIA = (UsageKind.OUTPUT_AUDIO, UsageKind.OUTPUT_IMAGE, UsageKind.OUTPUT_VIDEO)
OTHER_MEASURES = {
    *TIMED_KINDS,
    UsageKind.INPUT_CHARACTERS,
    UsageKind.INPUT_DOCUMENT_PAGES,
    UsageKind.INPUT_TEXT_MESSAGES,
    UsageKind.WEB_SEARCHES,
    UsageKind.STORAGE_SEARCHES,
}
# Their names of our counters, where they differ.
THEIR_NAMES = {
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_write_input_tokens": "cache_write_tokens",
    "cache_write_1h_input_tokens": "cache_write_1h_tokens",
    "cache_read_input_audio_tokens": "cache_audio_read_tokens",
    "cache_read_input_image_tokens": "cache_image_read_tokens",
    "reasoning_output_tokens": "output_reasoning_tokens",
    "citation_output_tokens": "output_citation_tokens",
}


def kinds_of(model: Model, at: datetime) -> frozenset[UsageKind]:
    """The kinds that the model's card in force at `at` prices."""
    in_force = [card for card in CARDS.get(model.key, []) if card.effective_from <= at]
    return in_force[-1].kinds if in_force else frozenset()


def dates(model: Model) -> list[datetime]:
    """Around every date on which the catalogue changes the model's price."""
    conditions = (
        [] if isinstance(model.info.prices, ModelPrice) else [each.constraint for each in model.info.prices]
    )
    conditions += [variant.constraint for variant in model.info.price_variants or ()]
    turns = {each.start_date for each in conditions if isinstance(each, StartDateConstraint)}
    days = [datetime(2026, 11, 23, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)]
    for turn in turns:
        first = datetime(turn.year, turn.month, turn.day, tzinfo=UTC)
        days += [first - timedelta(days=1), first]
    return days


def sizes(model: Model) -> list[int]:
    """Around every size at which the catalogue changes the model's price."""
    thresholds = {rate.above_input_tokens for card in CARDS.get(model.key, []) for rate in card.rates} - {0}
    return [1, 100_003, *(size for threshold in thresholds for size in (threshold, threshold + 1))]


def clocks(model: Model) -> tuple[timedelta, ...]:
    by_the_hour = any(rate.daily for card in CARDS.get(model.key, []) for rate in card.rates)
    return MIDNIGHT_TO_NOON if by_the_hour else (timedelta(hours=12),)


def priced_alike() -> list[tuple[Model, int]]:
    """A model of each price that there is, here and there, with the number of models that have it."""
    alike: dict[object, list[Model]] = {}
    for model in MODELS:
        if model.key not in SKIPPED:
            here = [(card.effective_from, card.rates) for card in CARDS.get(model.key, [])]
            there = (model.info.prices, model.info.price_variants)
            alike.setdefault(repr((here, there, model.key in NAMED_WITHOUT_OUTPUT)), []).append(model)
    return [(models[0], len(models)) for models in alike.values()]


def ours(model: Model, usage: Usage, at: datetime, tier: str | None) -> Decimal | None:
    """In cents; None when there is no rate."""
    in_force = [card for card in CARDS.get(model.key, []) if card.effective_from <= at]
    if not in_force:
        return None
    rates = in_force[-1].rates_for(input_tokens=input_size(usage), service_tier=tier, at=at)
    try:
        return sum_cents(line.usd_cents for line in rate_usage(usage=usage, rates=rates).lines)
    except RateMissingError:
        return None


def theirs(model: Model, usage: Usage, at: datetime, tier: str | None) -> Decimal:
    """In cents."""
    counters = {THEIR_NAMES.get(name, name): count for name, count in usage.known().items()}
    if usage.input_audio_seconds is not None:
        counters["audio_seconds"] = usage.input_audio_seconds
    context = dict.fromkeys(("service_tier", "processing", "speed"), tier) if tier else None
    price = model.info.calc_price(
        TheirUsage(**counters), model.provider, genai_request_timestamp=at, price_context=context
    )
    return price.total_price * 100


def compare(model: Model, usage: Usage, at: datetime, tier: str | None) -> str:
    mine, kinds = ours(model, usage, at, tier), kinds_of(model, at)
    if any(usage.count(kind) and kind not in kinds for kind in (*OUTPUT_MEDIA, *OTHER_MEASURES)):
        return "used without a price, unpriced" if mine is None else f"differs: {mine} here, without a price there"
    cents = theirs(model, usage, at, tier)
    if mine is None and model.key in NAMED_WITHOUT_OUTPUT:
        return "no price for output, named"
    if mine is None and not kinds & {UsageKind.INPUT, UsageKind.OUTPUT} and not cents:
        return "tokens of a model that is priced otherwise, unpriced"
    return "equal" if mine == cents else f"differs: {mine} here, {cents} there"


def test_every_model_costs_what_genai_prices_says_at_every_date_size_tier_and_hour() -> None:
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    seen["no price for usage, named"] = sum(model.key in SKIPPED for model in MODELS)
    for model, count in priced_alike():
        cases = product(dates(model), clocks(model), sizes(model), TIERS if model.info.price_variants else (None,))
        for day, clock, size, tier in cases:
            for usage in usages(size, kinds_of(model, day + clock)):
                verdict = compare(model, usage, day + clock, tier)
                seen[verdict.partition(":")[0]] += count
                if verdict.startswith("differs"):
                    wrong.append(f"{model.key} at {day + clock} in {tier}, {usage}: {verdict}")
    assert not wrong, f"{len(wrong)} of {seen}, the first: {wrong[:5]}"
    assert seen["equal"] > 80_000, seen
    assert 0 < seen["no price for output, named"] < seen["equal"] / 50, seen
    assert 0 < seen["no price for usage, named"] < len(MODELS) / 10, seen


def test_a_condition_that_no_event_reports_is_named_beside_the_model() -> None:
    left_out = {reason.partition(" is ")[0] for reason in (omission.reason for omission in CATALOGUE.omissions)}
    assert "price where route" in left_out
    assert "price where search_type" in left_out
    assert not any(reason.startswith("price kind") for reason in left_out)
    assert not any("service_tier" in reason or "processing" in reason for reason in left_out)


def test_a_model_whose_price_has_a_condition_that_we_cannot_read_is_left_out_by_name() -> None:
    class DayOfWeekConstraint:
        """What a later catalogue may have."""

    model = next(each.info for each in MODELS if each.key == ("deepseek", "deepseek-flash"))
    assert isinstance(model.prices, list)
    unread = replace(model, prices=[*model.prices, replace(model.prices[0], constraint=DayOfWeekConstraint())])
    assert _unread_conditions(model) is None
    assert _unread_conditions(unread) == "DayOfWeekConstraint"


@pytest.mark.parametrize(
    ("provider", "name", "model", "rule"),
    [
        (
            "anthropic",
            "claude-opus-4.7",
            "claude-opus-4-7",
            "anthropic/claude-opus-4.7 starts_with claude-opus-4.7",
        ),
        ("anthropic", "anthropic/claude-opus-4.7", "claude-opus-4-7", "anthropic/claude-opus-4.7 starts_with"),
        ("Anthropic", "Claude-Opus-4.7", "claude-opus-4-7", "anthropic/claude-opus-4.7 starts_with"),
        ("anthropic", "claude-opus-4-7-20260416", "claude-opus-4-7", "starts_with claude-opus-4-7"),
        ("openai", "gpt-5.5-pro", "gpt-5.5-pro", "equals gpt-5.5-pro"),
        ("openai", "gpt-5.5-pro-2026-04-23", "gpt-5.5-pro", "equals gpt-5.5-pro-2026-04-23"),
        ("openai", "gpt-5.5-pro-20260423", "gpt-5.5-pro", "openai/gpt-5.5-pro-2026-04-23 equals"),
        ("openai", "ft:gpt-4o-2024-08-06:acme::abc123", "ft:gpt-4o", "starts_with ft:gpt-4o-2024-"),
        ("azure", "gpt-5.5-pro", "gpt-5.5-pro", "openai/gpt-5.5-pro equals"),
        ("vertex_ai", "claude-opus-4.7", "claude-opus-4-7", "google/claude-opus-4.7 contains"),
        ("gemini", "gemini/gemini-2.5-pro", "gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("litellm", "anthropic/claude-opus-4.7", "claude-opus-4-7", "anthropic/claude-opus-4.7"),
        ("bedrock", "anthropic.claude-opus-4-7-v1:0", "regional.anthropic.claude-opus-4-7-v1:0", "aws/"),
    ],
)
def test_models_resolve_as_they_are_written_and_the_rule_is_given(
    provider: str, name: str, model: str, rule: str
) -> None:
    found = BOOK.find(provider=provider, model=name, at=datetime(2026, 11, 23, tzinfo=UTC))
    assert found is not None
    assert found.card.model == model
    assert rule in found.rule


def names(clause: object) -> Iterator[str]:
    for inner in getattr(clause, "or_", None) or getattr(clause, "and_", None) or ():
        yield from names(inner)
    for operator in ("equals", "starts_with", "ends_with", "contains"):
        if (operand := getattr(clause, operator, None)) is not None:
            yield operand
            yield f"{operand}-20260131"


def test_every_name_that_the_catalogue_knows_means_the_same_model_here_or_none() -> None:
    seen: Counter[str] = Counter()
    snapshot = get_snapshot()
    for model in MODELS:
        for name in names(model.info.match):
            found = BOOK.find(provider=model.provider.id, model=name, at=datetime(2026, 11, 23, tzinfo=UTC))
            try:
                seller, theirs = snapshot.find_provider_model(name, None, model.provider.id, None)
            except LookupError:
                assert found is None, name
                continue
            if found is None:
                served = [seller.id, *(seller.fallback_model_providers or ())]
                assert any((provider, theirs.id) in SKIPPED for provider in served), name
            else:
                assert found.card.model == theirs.id, name
                seen["same"] += 1
    assert seen["same"] > 3_000


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "gpt-99-imaginary"),
        ("nowhere", "gpt-5.5-pro"),
        ("anthropic", "openai/claude-opus-4.7"),
        ("x", ""),
    ],
)
def test_what_the_catalogue_does_not_name_has_no_price(provider: str, name: str) -> None:
    assert BOOK.find(provider=provider, model=name, at=datetime(2026, 11, 23, tzinfo=UTC)) is None

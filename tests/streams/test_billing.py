"""Bills: other people's published ones to the last digit, what is flagged, and what is not billed in silence."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.events.events import Outcome, StreamEnd, UsageEvent, UsageSource
from metering.events.usage import Usage, UsageKind
from metering.prices.price_book import PriceBook, UpstreamPrice, UpstreamPriceBook
from metering.prices.rate_book import RateBook
from metering.prices.rates import Rate, RateCard
from metering.streams.bill import Bill, Flag, PriceSource
from metering.streams.billing import UnmeasuredError, UnpricedError, make_bill, written_off
from metering.streams.stream import StreamFacts, facts_of, join_all
from tests.builders.catalogues import CATALOGUE
from tests.builders.events import T0, delivered, end, start

PUBLISHED = PriceBook(rates=RateBook(CATALOGUE.cards, CATALOGUE.providers))


def facts(*events: UsageEvent, received_at: datetime | None = None) -> StreamFacts:
    (found,) = join_all(facts_of(event, received_at=received_at) for event in events).values()
    return found


def bill(*events: UsageEvent, prices: PriceBook = PUBLISHED, received_at: datetime | None = None) -> Bill:
    found = facts(*events, received_at=received_at)
    assert found.start is not None
    return make_bill(facts=found, start=found.start.event, prices=prices)


def used(provider: str, model: str, *, at: datetime = T0, **counts: Any) -> Bill:
    """The bill of a completed stream with this usage."""
    began = start(provider=provider, model=model, time=at, input_tokens=None)
    return bill(began, end(time=at, usage=Usage(**counts), usage_source=UsageSource.PROVIDER))


@pytest.mark.parametrize(
    ("provider", "model", "counts", "cents"),
    [
        # Reasoning beside the completion, as xAI counts it.
        (
            "x-ai",
            "grok-4.20",
            {
                "input_tokens": 10_120,
                "output_tokens": 1_499,
                "cache_read_input_tokens": 128,
                "reasoning_output_tokens": 2_809,
            },
            "2.32856",
        ),
        # The cache beside the prompt, as a translating proxy passes Anthropic's numbers on.
        (
            "anthropic",
            "claude-sonnet-4-6",
            {"input_tokens": 19, "output_tokens": 100, "cache_read_input_tokens": 39_000},
            "1.3257",
        ),
        ("openai", "text-embedding-3-small", {"input_tokens": 123_456, "output_tokens": 0}, "0.246912"),
        (
            "anthropic",
            "claude-opus-5",
            {
                "input_tokens": 344_139,
                "output_tokens": 0,
                "cache_write_input_tokens": 344_139,
                "cache_write_1h_input_tokens": 344_139,
            },
            "344.139",
        ),
        (
            "openai",
            "gpt-realtime-mini",
            {
                "input_tokens": 1_000,
                "input_audio_tokens": 800,
                "cache_read_input_tokens": 900,
                "cache_read_input_audio_tokens": 700,
            },
            "0.1222",
        ),
        (
            "google",
            "gemini-2.5-flash-image",
            {"input_tokens": 20, "output_tokens": 1_290, "output_image_tokens": 1_290},
            "3.8706",
        ),
        # USD 0.111 an hour; USD 15 a million characters; USD 2 a thousand pages, and 3 for each that is annotated.
        ("groq", "whisper-large-v3", {"audio_seconds": Decimal("3600")}, "11.1"),
        ("openai", "tts-1", {"input_characters": 1_234}, "1.851"),
        (
            "mistral",
            "mistral-ocr-2512",
            {"input_document_pages": 10, "input_annotated_document_pages": 4},
            "2.4",
        ),
    ],
)
def test_published_prices_give_published_bills(
    provider: str, model: str, counts: dict[str, Any], cents: str
) -> None:
    assert used(provider, model, **counts).usd_cents == Decimal(cents)


def test_a_second_of_audio_costs_a_36th_of_the_hourly_price_to_twelve_places() -> None:
    found = used("groq", "whisper-large-v3", audio_seconds=Decimal("0.001"))
    assert found.usd_cents == Decimal("0.000003083333")
    (line,) = found.lines
    assert (line.quantity, line.usd_per_hour, line.usd_per_million) == (Decimal("0.001"), Decimal("0.111"), None)


def test_tokens_beside_another_measure_are_not_billed_where_only_that_has_a_price() -> None:
    heard = used("groq", "whisper-large-v3", audio_seconds=Decimal(36), input_tokens=400, output_tokens=90)
    assert [line.kind for line in heard.lines] == [UsageKind.AUDIO_SECONDS]
    with pytest.raises(UnpricedError, match=r"no rate for input tokens \(it has rates for audio_seconds"):
        used("groq", "whisper-large-v3", input_tokens=400)
    with pytest.raises(UnpricedError, match="no rate for web_searches"):
        used("groq", "llama-3.1-8b-instant", input_tokens=1, output_tokens=1, web_searches=2)


def test_counters_that_contradict_each_other_are_flagged_and_the_bill_has_the_reading() -> None:
    found = used("x-ai", "grok-4.20", input_tokens=10, output_tokens=5, reasoning_output_tokens=7)
    assert found.flags == (Flag.INCONSISTENT_USAGE,)
    assert found.usage.output_tokens == 12


def test_a_kind_without_a_rate_is_priced_as_its_parent_and_flagged() -> None:
    found = used("openai", "gpt-4o", input_tokens=10, output_tokens=1, cache_write_input_tokens=4)
    assert (found.flags, found.lines[0].quantity) == ((Flag.PARENT_RATE,), 10)
    assert used("openai", "o3", input_tokens=10, output_tokens=9, reasoning_output_tokens=8).flags == ()


def test_media_is_never_billed_at_the_rate_of_text() -> None:
    for counter in ("output_audio_tokens", "output_image_tokens", "output_video_tokens"):
        with pytest.raises(UnpricedError, match="no rate for output_"):
            used("openai", "gpt-4o", input_tokens=17, output_tokens=592, **{counter: 482})


def test_a_kind_that_has_a_rate_under_other_conditions_is_not_billed_by_another_rate() -> None:
    card = RateCard(
        rate_card_id="rc",
        provider="house",
        model="m",
        effective_from=T0 - timedelta(days=9),
        rates=(
            Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(1)),
            Rate(kind=UsageKind.CACHE_READ, usd_per_million=Decimal(2), service_tier="batch"),
        ),
        names={"equals": "m"},
    )
    prices = PriceBook(rates=RateBook([card]))
    began = start(provider="house", model="m")
    ended = end(usage=Usage(input_tokens=9, output_tokens=0, cache_read_input_tokens=4))
    with pytest.raises(UnpricedError, match="no rate for cache_read"):
        bill(began, ended, prices=prices)
    assert bill(began, replace(ended, service_tier="Batch"), prices=prices).usd_cents == Decimal("0.0013")


def test_a_completed_stream_of_which_nothing_is_known_has_no_bill() -> None:
    ended = end(usage=None)
    with pytest.raises(UnmeasuredError):
        bill(start(input_tokens=None), ended)
    with pytest.raises(UnmeasuredError):
        bill(start(input_tokens=None), delivered(tokens=0), end(usage=Usage()))
    assert bill(start(input_tokens=None), replace(ended, outcome=Outcome.CANCELLED)).usd_cents == 0
    assert bill(start(input_tokens=None), delivered(tokens=7), ended).usage.output_tokens == 7


def test_a_completed_stream_with_only_an_input_is_billed_for_it_and_told() -> None:
    found = bill(start(), end(usage=None))
    assert (found.usd_cents, found.flags) == (Decimal("0.406"), (Flag.OUTPUT_UNKNOWN,))
    embedded = start(operation="embeddings", provider="openai", model="text-embedding-3-small")
    assert bill(embedded, end(usage=None)).flags == ()


@pytest.mark.parametrize("source", list(UsageSource))
def test_a_count_of_nothing_is_not_believed_where_something_was_delivered(source: UsageSource) -> None:
    nothing = end(usage=Usage(input_tokens=0, output_tokens=0), usage_source=source)
    found = bill(start(), delivered(tokens=20), nothing)
    assert (found.usage.output_tokens, found.flags) == (20, (Flag.INCONSISTENT_USAGE,))
    assert found.usage_source is (UsageSource.GATEWAY_COUNT if source is UsageSource.PROVIDER else source)


def test_another_provider_that_answered_is_the_one_that_is_priced() -> None:
    ended = end(response_provider="openai", response_model="gpt-4o", usage=Usage(input_tokens=4, output_tokens=2))
    found = bill(start(), ended)
    assert (found.provider, found.response_provider, found.rated_model) == ("anthropic", "openai", "gpt-4o")
    assert found.usd_cents == Decimal("0.003")


OPENROUTER = PriceBook(
    rates=PUBLISHED.rates,
    upstream_prices=UpstreamPriceBook(
        [UpstreamPrice(provider="openrouter", accepted=True, effective_from=T0 - timedelta(days=1))]
    ),
)


def stated(cost: str, **changes: Any) -> StreamEnd:
    return end(upstream_cost_usd=Decimal(cost), usage=Usage(input_tokens=4, output_tokens=2), **changes)


def test_the_upstreams_cost_is_kept_beside_ours_and_is_no_price() -> None:
    found = bill(start(), stated("0.00012"), prices=OPENROUTER)
    assert (found.usd_cents, found.upstream_usd_cents) == (Decimal("0.007"), Decimal("0.012"))
    assert found.price_source is PriceSource.RATE_CARD


def test_the_upstreams_cost_is_the_price_of_a_model_without_a_rate_where_that_is_accepted() -> None:
    began = start(provider="openrouter", model="nobody/knows-1")
    with pytest.raises(UnpricedError):
        bill(began, stated("0.00012"))
    found = bill(began, stated("0.00012"), prices=OPENROUTER)
    assert (found.usd_cents, found.price_source) == (Decimal("0.012"), PriceSource.UPSTREAM)
    (line,) = found.lines
    assert (line.kind, line.quantity, line.usd_per_million) == (UsageKind.UPSTREAM_COST, 1, Decimal(120))
    early = start(provider="openrouter", model="nobody/knows-1", time=T0 - timedelta(days=2))
    with pytest.raises(UnpricedError):
        bill(early, stated("0.00012"), prices=OPENROUTER)


def test_a_stream_that_was_priced_by_its_upstream_stays_so() -> None:
    began = start(provider="openrouter", model="nobody/knows-1")
    booked = bill(began, stated("0.00012"), prices=OPENROUTER)
    later = make_bill(facts=facts(began, stated("0.00013")), start=began, prices=PUBLISHED, booked=booked)
    assert (later.usd_cents, later.price_source) == (Decimal("0.013"), PriceSource.UPSTREAM)


def test_a_clock_that_is_ahead_or_goes_backwards_is_flagged() -> None:
    assert bill(start(), end(), received_at=T0 - timedelta(minutes=6)).flags == (Flag.CLOCK_SKEW,)
    assert bill(start(), end(), received_at=T0 - timedelta(minutes=4)).flags == ()
    assert bill(start(), end(time=T0 - timedelta(minutes=6))).flags == (Flag.CLOCK_SKEW,)


def test_a_misdated_stream_is_priced_and_filed_by_its_receipt() -> None:
    wrong = datetime(2031, 1, 1, tzinfo=UTC)
    found = bill(start(time=wrong), end(time=wrong), received_at=T0)
    assert (found.started_at, found.ended_at) == (T0, T0)


def test_what_is_written_off_costs_nothing_and_keeps_what_is_known() -> None:
    found = written_off(facts=facts(stated("0.5", response_provider="openai")), retry_of=None)
    assert (found.usd_cents, found.upstream_usd_cents, found.response_provider) == (0, Decimal(50), "openai")

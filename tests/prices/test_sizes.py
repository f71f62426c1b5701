"""The size of a request that selects its price: all input that the provider counts, cached input included.

Each threshold is the vendor's own: Google and Anthropic charge more above 200,000 input tokens, OpenAI above
272,000, Gemini 1.5 above 128,000, xAI from 200,000 on. All of them count cached tokens: Anthropic adds
`cache_read_input_tokens` and `cache_creation_input_tokens` to `input_tokens`; our `input_tokens` contains both.
"""

from datetime import UTC, datetime

import pytest

from metering.core.money import cents_text, sum_cents
from metering.events.usage import Usage
from metering.prices.rate_book import RateBook
from metering.prices.rating import input_size, rate_by_card
from tests.builders.catalogues import PRICES

AT = datetime(2026, 11, 23, tzinfo=UTC)
BOOK = RateBook(PRICES.cards, PRICES.providers)


def cost(provider: str, model: str, usage: Usage) -> str:
    """In cents."""
    found = BOOK.find(provider=provider, model=model, at=AT)
    assert found is not None
    lines = rate_by_card(usage=usage, card=found.card, service_tier=None, at=AT).lines
    return cents_text(sum_cents(line.usd_cents for line in lines))


@pytest.mark.parametrize(
    ("provider", "model", "size", "cached", "cents"),
    [
        ("anthropic", "claude-sonnet-4-5", 200_000, 150_000, "21"),
        ("anthropic", "claude-sonnet-4-5", 200_001, 150_000, "41.2506"),
        ("google", "gemini-2.5-pro", 200_000, 0, "26"),
        ("google", "gemini-2.5-pro", 200_001, 0, "51.50025"),
        ("google", "gemini-2.5-pro", 200_000, 200_000, "3.5"),
        ("google", "gemini-2.5-pro", 200_001, 200_001, "6.500025"),
        ("openai", "gpt-5.5", 272_000, 272_000, "16.6"),
        ("openai", "gpt-5.5", 272_001, 272_001, "31.7001"),
        ("google", "gemini-1.5-flash", 128_000, 128_000, "0.27"),
        ("google", "gemini-1.5-flash", 128_001, 128_001, "0.54000375"),
        ("x-ai", "grok-4.20", 199_999, 199_999, "4.24998"),
        ("x-ai", "grok-4.20", 200_000, 200_000, "8.5"),
    ],
)
def test_the_dearer_price_begins_at_the_vendors_edge_with_cached_input_counted(
    provider: str, model: str, size: int, cached: int, cents: str
) -> None:
    usage = Usage(input_tokens=size, output_tokens=1_000, cache_read_input_tokens=cached)
    assert cost(provider, model, usage) == cents


def test_input_that_was_written_to_the_cache_counts_too() -> None:
    below = Usage(input_tokens=200_000, output_tokens=0, cache_write_input_tokens=200_000)
    above = Usage(input_tokens=200_001, output_tokens=0, cache_write_input_tokens=200_001)
    assert cost("anthropic", "claude-sonnet-4-5", below) == "75"
    assert cost("anthropic", "claude-sonnet-4-5", above) == "150.00075"


def test_output_does_not_count() -> None:
    usage = Usage(input_tokens=199_000, output_tokens=100_000, reasoning_output_tokens=90_000)
    assert input_size(usage) == 199_000


def test_without_the_total_the_size_is_the_sum_of_the_parts_that_are_known() -> None:
    usage = Usage(cache_read_input_tokens=150_000, cache_write_input_tokens=50_001, output_tokens=0)
    assert input_size(usage) == 200_001
    assert input_size(Usage(output_tokens=5)) == 0

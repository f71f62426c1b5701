"""Rating: each kind at its rate, nested kinds once, nothing rounded, nothing free by accident."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.money import cents_of, cents_text, sum_cents
from metering.domain.rates import Rate, RateCard
from metering.domain.rating import RateMissingError, rate_usage
from metering.domain.usage import Usage, UsageKind

MAX = 2**53 - 1


def card(*rates: tuple[str, str] | tuple[str, str, int]) -> RateCard:
    return RateCard(
        rate_card_id="rc_test",
        provider="anthropic",
        model="claude-opus-4-7",
        effective_from=datetime(2026, 1, 1, tzinfo=UTC),
        rates=tuple(
            Rate(
                kind=UsageKind(rate[0]),
                usd_per_million=Decimal(rate[1]),
                above_input_tokens=rate[2] if len(rate) > 2 else 0,
            )
            for rate in rates
        ),
        names={"equals": "claude-opus-4-7"},
    )


OPUS = card(("input", "5"), ("output", "25"), ("cache_read", "0.5"), ("cache_write", "6.25"))
TIERED = card(("input", "30"), ("input", "60", 272_000), ("output", "180"), ("output", "270", 272_000))


def lines(usage: Usage, rated_by: RateCard) -> list[tuple[str, int, str]]:
    rated = rate_usage(usage=usage, card=rated_by)
    return [(line.kind.value, line.quantity, cents_text(line.usd_cents)) for line in rated]


def test_the_example_of_the_contract_costs_what_it_says() -> None:
    usage = Usage(input_tokens=812, output_tokens=37)
    assert lines(usage, OPUS) == [("input", 812, "0.406"), ("output", 37, "0.0925")]


def test_cached_input_is_priced_at_its_own_rate_and_only_the_rest_at_the_input_rate() -> None:
    usage = Usage(input_tokens=1000, output_tokens=0, cache_read_input_tokens=600, cache_write_input_tokens=300)
    assert lines(usage, OPUS) == [
        ("input", 100, "0.05"),
        ("cache_read", 600, "0.03"),
        ("cache_write", 300, "0.1875"),
    ]


def test_a_nested_kind_without_a_rate_is_priced_as_its_parent() -> None:
    usage = Usage(input_tokens=10, output_tokens=100, reasoning_output_tokens=80, input_audio_tokens=4)
    assert lines(usage, OPUS) == [("input", 10, "0.005"), ("output", 100, "0.25")]


def test_nested_counters_above_their_parent_never_bill_more_than_the_parent() -> None:
    usage = Usage(input_tokens=50, cache_read_input_tokens=80, cache_write_input_tokens=20)
    assert lines(usage, OPUS) == [("cache_read", 50, "0.0025")]


def test_where_only_nested_counters_are_known_they_are_the_parent() -> None:
    assert lines(Usage(cache_read_input_tokens=80), OPUS) == [("cache_read", 80, "0.004")]
    assert lines(Usage(input_audio_tokens=80), OPUS) == [("input", 80, "0.04")]


@pytest.mark.parametrize(("size", "rate"), [(271_999, "30"), (272_000, "30"), (272_001, "60")])
def test_a_tier_prices_the_whole_request_once_its_size_is_exceeded(size: int, rate: str) -> None:
    (line,) = rate_usage(usage=Usage(input_tokens=size), card=TIERED)
    assert line.usd_per_million == Decimal(rate)
    assert line.quantity == size


def test_the_output_tier_goes_by_the_size_of_the_input() -> None:
    rated = rate_usage(usage=Usage(input_tokens=272_001, output_tokens=1), card=TIERED)
    assert rated[1].usd_per_million == Decimal(270)


def test_a_kind_that_was_used_and_has_no_rate_is_refused_not_free() -> None:
    with pytest.raises(RateMissingError, match="no rate for output tokens"):
        rate_usage(usage=Usage(input_tokens=1, output_tokens=1), card=card(("input", "5")))


def test_the_largest_counters_are_rated_exactly() -> None:
    usage = Usage(input_tokens=MAX, output_tokens=MAX)
    total = sum_cents(line.usd_cents for line in rate_usage(usage=usage, card=OPUS))
    assert total == Decimal(MAX * 30) / Decimal(10_000)


@given(st.integers(0, MAX), st.decimals("0", "99999", places=9))
def test_an_amount_is_exactly_quantity_times_rate(quantity: int, usd: Decimal) -> None:
    assert Fraction(cents_of(quantity=quantity, usd_per_million=usd)) == quantity * Fraction(usd) / 10_000


@given(st.decimals("-1e15", "1e15", places=12))
def test_text_of_an_amount_is_plain_exact_and_canonical(amount: Decimal) -> None:
    text = cents_text(amount)
    assert Decimal(text) == amount
    assert "E" not in text
    assert text == "0" or "." not in text or not text.endswith("0")

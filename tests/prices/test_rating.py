"""Rating: each kind at its rate, nested kinds once, nothing rounded, nothing free by accident."""

from dataclasses import replace
from datetime import UTC, datetime, time
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.money import cents_of, cents_text, sum_cents
from metering.events.nesting import input_size
from metering.events.usage import Usage, UsageKind
from metering.prices.rates import DailyWindow, Rate, RateCard
from metering.prices.rating import ChargeLine, RateMissingError, rate_usage

MAX = 2**53 - 1
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


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


def rate(
    usage: Usage, card: RateCard, *, service_tier: str | None = None, at: datetime = NOON, markup: str = "0"
) -> tuple[ChargeLine, ...]:
    rates = card.rates_for(input_tokens=input_size(usage), service_tier=service_tier, at=at)
    return rate_usage(usage=usage, rates=rates, markup_percent=Decimal(markup)).lines


def lines(usage: Usage, rated_by: RateCard) -> list[tuple[str, int, str]]:
    rated = rate(usage, rated_by)
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


def test_where_only_nested_counters_are_known_they_are_the_parent() -> None:
    assert lines(Usage(cache_read_input_tokens=80), OPUS) == [("cache_read", 80, "0.004")]
    assert lines(Usage(input_audio_tokens=80), OPUS) == [("input", 80, "0.04")]


@pytest.mark.parametrize(("size", "usd"), [(271_999, "30"), (272_000, "30"), (272_001, "60")])
def test_a_tier_prices_the_whole_request_once_its_size_is_exceeded(size: int, usd: str) -> None:
    (line,) = rate(Usage(input_tokens=size), TIERED)
    assert line.usd_per_million == Decimal(usd)
    assert line.quantity == size


def test_the_output_tier_goes_by_the_size_of_the_input() -> None:
    rated = rate(Usage(input_tokens=272_001, output_tokens=1), TIERED)
    assert rated[1].usd_per_million == Decimal(270)


def test_input_that_is_known_only_by_its_nested_kinds_chooses_the_tier_too() -> None:
    (line,) = rate(Usage(cache_read_input_tokens=272_001), TIERED)
    assert line.usd_per_million == Decimal(60)


FLEX = replace(
    TIERED,
    rates=(
        *TIERED.rates,
        Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(15), service_tier="flex"),
        Rate(kind=UsageKind.OUTPUT, usd_per_million=Decimal(90), service_tier="flex"),
        Rate(kind=UsageKind.OUTPUT, usd_per_million=Decimal(99), above_input_tokens=9, service_tier="flex"),
    ),
)


@pytest.mark.parametrize(
    ("service_tier", "size", "expected"),
    [
        (None, 5, ["30", "180"]),
        ("default", 5, ["30", "180"]),
        ("flex", 5, ["15", "90"]),
        ("flex", 10, ["15", "99"]),
        ("flex", 272_001, ["15", "99"]),
    ],
)
def test_a_service_tier_has_its_own_rates_and_one_that_the_card_does_not_know_has_the_standard_ones(
    service_tier: str | None, size: int, expected: list[str]
) -> None:
    rated = rate(Usage(input_tokens=size, output_tokens=1), FLEX, service_tier=service_tier)
    assert [cents_text(line.usd_per_million) for line in rated] == expected


NIGHT = replace(
    card(("input", "4"), ("output", "8")),
    rates=(
        Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(4)),
        Rate(kind=UsageKind.OUTPUT, usd_per_million=Decimal(8)),
        Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(1), daily=DailyWindow(time(22), time(6))),
    ),
)


@pytest.mark.parametrize(
    ("at", "expected"),
    [((21, 59), 4), ((22, 0), 1), ((23, 59), 1), ((0, 0), 1), ((5, 59), 1), ((6, 0), 4), ((12, 0), 4)],
)
def test_a_rate_for_a_time_of_day_goes_by_the_clock_in_utc_and_past_midnight(
    at: tuple[int, int], expected: int
) -> None:
    utc = NOON.replace(hour=at[0], minute=at[1])
    for zone in ("UTC", "Asia/Kolkata"):
        rated = rate(Usage(input_tokens=1, output_tokens=1), NIGHT, at=utc.astimezone(ZoneInfo(zone)))
        assert [line.usd_per_million for line in rated] == [expected, 8]


@pytest.mark.parametrize(
    ("percent", "usd"), [("0", "5"), ("20", "6"), ("-10", "4.5"), ("0.1", "5.005"), ("-100", "0")]
)
def test_a_markup_is_in_the_rate_of_each_line_so_that_the_line_can_still_be_redone(percent: str, usd: str) -> None:
    (line,) = rate(Usage(input_tokens=7), OPUS, markup=percent)
    assert line.usd_per_million == Decimal(usd)
    assert line.usd_cents == 7 * Decimal(usd) / 10_000


def test_a_kind_that_was_used_and_has_no_rate_is_refused_not_free() -> None:
    with pytest.raises(RateMissingError, match="no rate for output tokens"):
        rate(Usage(input_tokens=1, output_tokens=1), card(("input", "5")))


def test_the_largest_counters_are_rated_exactly() -> None:
    usage = Usage(input_tokens=MAX, output_tokens=MAX)
    total = sum_cents(line.usd_cents for line in rate(usage, OPUS))
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

"""Rate cards: the most specific rate of each kind, by tier, time of day and size; ids that follow from content."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.events.usage import UsageKind
from metering.prices.rates import DailyWindow, Rate, RateCard, id_by_content, in_order, rate_card_id_of

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NIGHT = DailyWindow(time(22), time(6))
TIMES = st.times().map(lambda at: at.replace(tzinfo=None, fold=0))


def rate(usd: str, kind: UsageKind = UsageKind.INPUT, **changes: object) -> Rate:
    return Rate(kind=kind, usd_per_million=Decimal(usd), **changes)  # type: ignore[arg-type]


def card(*rates: Rate, **changes: object) -> RateCard:
    given_fields = {"rate_card_id": "rc", "provider": "p", "model": "m", "effective_from": NOON, **changes}
    return RateCard(rates=rates, names={"equals": "m"}, **given_fields)  # type: ignore[arg-type]


def price(of: RateCard, *, size: int = 1, tier: str | None = None, at: datetime = NOON) -> str:
    return str(of.rates_for(input_tokens=size, service_tier=tier, at=at)[UsageKind.INPUT].usd_per_million)


@given(TIMES, TIMES, TIMES)
def test_a_window_that_ends_before_it_begins_runs_past_midnight(start: time, end: time, clock: time) -> None:
    at = datetime.combine(NOON.date(), clock, tzinfo=UTC)
    inside = DailyWindow(start, end).contains(at)
    if start != end:
        assert inside != DailyWindow(end, start).contains(at)
    if start < end:
        assert inside == (start <= clock < end)


def test_a_window_is_in_utc_whatever_zone_a_moment_is_written_in() -> None:
    at = datetime(2026, 11, 23, 23, tzinfo=ZoneInfo("America/New_York"))  # 04:00 in UTC
    assert NIGHT.contains(at)
    assert not NIGHT.contains(NOON)


def test_the_size_of_the_request_prices_all_of_it_from_beyond_the_threshold_on() -> None:
    tiered = card(rate("1"), rate("2", above_input_tokens=1_000), rate("3", above_input_tokens=2_000))
    found = [price(tiered, size=size) for size in (0, 1_000, 1_001, 2_000, 2_001)]
    assert found == ["1", "1", "2", "2", "3"]


def test_the_tier_goes_before_the_time_of_day_and_both_before_either() -> None:
    of_all = (
        rate("1"),
        rate("2", daily=NIGHT),
        rate("3", service_tier="batch"),
        rate("4", service_tier="batch", daily=NIGHT),
    )
    midnight = NOON + timedelta(hours=12)
    whole = card(*of_all)
    assert price(whole) == "1"
    assert price(whole, at=midnight) == "2"
    assert price(whole, tier="batch") == "3"
    assert price(whole, tier="batch", at=midnight) == "4"
    assert price(whole, tier="unheard-of") == "1"
    assert price(card(*of_all[:3]), tier="batch", at=midnight) == "3"


def test_a_kind_that_the_tier_does_not_price_keeps_its_rate() -> None:
    whole = card(rate("1"), rate("9", UsageKind.OUTPUT), rate("3", service_tier="batch"))
    table = whole.rates_for(input_tokens=1, service_tier="batch", at=NOON)
    assert {kind: str(found.usd_per_million) for kind, found in table.items()} == {
        UsageKind.INPUT: "3",
        UsageKind.OUTPUT: "9",
    }


def test_tiers_from_outside_do_not_fill_the_memory_and_are_priced_all_the_same() -> None:
    whole = card(rate("1"), rate("3", service_tier="batch"))
    for number in range(1_000):
        assert price(whole, tier=f"tier-{number}") == "1"
    assert price(whole, tier="batch") == "3"
    assert len(whole._tables) <= 32


RATES = st.builds(
    Rate,
    kind=st.sampled_from(UsageKind),
    usd_per_million=st.decimals(0, 100, places=3),
    above_input_tokens=st.sampled_from([0, 1_000]),
    service_tier=st.sampled_from([None, "batch"]),
    daily=st.sampled_from([None, NIGHT]),
)


@given(
    st.lists(
        RATES,
        max_size=6,
        unique_by=lambda each: (each.kind, each.above_input_tokens, each.service_tier, each.daily),
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_in_which_rates_are_given_does_not_matter(rates: list[Rate], random: object) -> None:
    ordered = in_order(rates)
    random.shuffle(rates)  # type: ignore[attr-defined]
    assert in_order(rates) == ordered


def test_a_cards_id_follows_from_what_it_says() -> None:
    own = {"provider": "p", "model": "m", "effective_from": NOON, "rates": [rate("1.50")]}
    same = {**own, "rates": [rate("1.5")], "effective_from": NOON.astimezone(ZoneInfo("Asia/Tokyo"))}
    assert rate_card_id_of(**own) == rate_card_id_of(**same)  # type: ignore[arg-type]
    others = [
        {**own, "provider": "q"},
        {**own, "model": "n"},
        {**own, "effective_from": NOON + timedelta(seconds=1)},
        {**own, "rates": [rate("1.51")]},
        {**own, "rates": [rate("1.5", UsageKind.OUTPUT)]},
        {**own, "rates": [rate("1.5", above_input_tokens=1)]},
        {**own, "rates": [rate("1.5", service_tier="batch")]},
        {**own, "rates": [rate("1.5", daily=NIGHT)]},
        {**own, "customer_id": "acme"},
    ]
    ids = {rate_card_id_of(**each) for each in (own, *others)}  # type: ignore[arg-type]
    assert len(ids) == 1 + len(others)


@pytest.mark.parametrize("changes", [{"model": "n"}, {"customer_id": "acme"}, {"rates": (rate("2"),)}])
def test_a_card_that_was_changed_has_another_id_by_its_content(changes: dict[str, object]) -> None:
    written = card(rate("1"))
    genuine = replace(written, rate_card_id=id_by_content(written))
    assert id_by_content(genuine) == genuine.rate_card_id
    assert id_by_content(replace(genuine, **changes)) != genuine.rate_card_id  # type: ignore[arg-type]

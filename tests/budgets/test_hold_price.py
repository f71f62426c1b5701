"""What a stream may cost is priced as it will be billed."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.budgets.hold_price import HoldPrice, OutputUnknownError, PriceUnknownError, price_hold
from metering.budgets.holds import HoldMode
from metering.events.usage import UsageKind
from metering.prices.price_book import Markup, MarkupBook, PriceBook
from metering.prices.rate_book import RateBook
from metering.prices.rates import ALWAYS, Rate, RateCard
from tests.builders.budgets import asked

AT = datetime(2026, 11, 23, 15, tzinfo=UTC)


def card(*rates: Rate, customer_id: str | None = None, model: str = "m") -> RateCard:
    return RateCard(
        rate_card_id=f"rc_{model}_{customer_id}",
        provider="p",
        model=model,
        effective_from=ALWAYS,
        rates=rates,
        names={"equals": model},
        customer_id=customer_id,
    )


def rate(kind: UsageKind, usd: str, *, above: int = 0) -> Rate:
    return Rate(kind=kind, usd_per_million=Decimal(usd), above_input_tokens=above)


def book(*cards: RateCard, percent: str | None = None) -> PriceBook:
    markups = (
        [] if percent is None else [Markup(customer_id="acme", percent=Decimal(percent), effective_from=ALWAYS)]
    )
    return PriceBook(rates=RateBook(cards), markups=MarkupBook(markups))


PLAIN = card(rate(UsageKind.INPUT, "5"), rate(UsageKind.OUTPUT, "25"))


def price(prices: PriceBook, **changes: object) -> HoldPrice:
    given_ = {"provider": "p", "model": "m", "input_tokens": 1_000, "max_output_tokens": 100, **changes}
    return price_hold(asked(**given_), prices=prices, at=AT)  # type: ignore[arg-type]


def test_input_and_output_have_their_rates() -> None:
    assert price(book(PLAIN)) == HoldPrice(Decimal("0.5"), Decimal("0.0025"))


def test_a_markup_applies_and_a_customers_own_card_has_none() -> None:
    assert price(book(PLAIN, percent="20")).amount(100) == Decimal("0.9")
    own = card(rate(UsageKind.INPUT, "1"), rate(UsageKind.OUTPUT, "2"), customer_id="acme")
    assert price(book(PLAIN, own, percent="20")).amount(100) == Decimal("0.12")


def test_the_size_of_the_input_selects_the_rates() -> None:
    sized = card(
        rate(UsageKind.INPUT, "5"),
        rate(UsageKind.OUTPUT, "25"),
        rate(UsageKind.INPUT, "10", above=500),
        rate(UsageKind.OUTPUT, "50", above=500),
    )
    assert price(book(sized)) == HoldPrice(Decimal(1), Decimal("0.005"))
    assert price(book(sized), input_tokens=500) == HoldPrice(Decimal("0.25"), Decimal("0.0025"))


def test_a_price_for_each_request_is_held_as_well() -> None:
    prices = book(card(*PLAIN.rates, rate(UsageKind.REQUEST, "10000")))
    assert price(prices).amount(0) == Decimal("1.5")


def test_a_model_without_a_price_or_without_one_for_its_output_has_no_hold_price() -> None:
    with pytest.raises(PriceUnknownError, match="no rate for p/other"):
        price(book(PLAIN), model="other")
    only_input = book(card(rate(UsageKind.INPUT, "5")))
    with pytest.raises(PriceUnknownError, match="no rate for output tokens"):
        price(only_input)
    assert price(only_input, max_output_tokens=None) == HoldPrice(Decimal("0.5"), Decimal(0))


def test_the_worst_case_needs_an_end_and_a_sliding_hold_does_not() -> None:
    with pytest.raises(OutputUnknownError):
        price(book(PLAIN), max_output_tokens=None)
    assert price(book(PLAIN), max_output_tokens=None, mode=HoldMode.SLIDING).amount(0) == Decimal("0.5")


@given(
    input_cents=st.decimals(0, 100, places=4),
    per_token=st.decimals(Decimal("0.0001"), 1, places=4),
    room=st.decimals(0, 1_000, places=4),
)
def test_the_output_that_fits_fits_and_one_token_more_does_not(
    input_cents: Decimal, per_token: Decimal, room: Decimal
) -> None:
    found = HoldPrice(input_cents, per_token)
    fits = found.output_tokens_within(room)
    if fits or input_cents <= room:
        assert found.amount(fits) <= room
    assert found.amount(fits + 1) > room

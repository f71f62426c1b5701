"""Money: exact cents, one spelling, and an error where a result would not be exact."""

from decimal import Decimal, Inexact
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.money import EXACT, cents_of, cents_text, sum_cents, with_percent

COUNTS = st.integers(0, 2**53 - 1)
RATES = st.decimals(min_value=0, max_value=10**6, places=9)
AMOUNTS = st.decimals(min_value=-(10**15), max_value=10**15, places=12)


@given(COUNTS, RATES)
def test_a_quantity_costs_the_rate_times_a_hundred_over_a_million(quantity: int, rate: Decimal) -> None:
    cents = cents_of(quantity=quantity, usd_per_million=rate)
    assert Fraction(cents) == Fraction(quantity) * Fraction(rate) * 100 / 1_000_000


@given(RATES, st.decimals(min_value=-100, max_value=1_000, places=4))
def test_a_percentage_is_added_exactly(rate: Decimal, percent: Decimal) -> None:
    assert Fraction(with_percent(rate, percent=percent)) == Fraction(rate) * (100 + Fraction(percent)) / 100


@given(st.lists(AMOUNTS), st.randoms(use_true_random=False))
def test_a_sum_is_exact_whatever_the_order(amounts: list[Decimal], random: object) -> None:
    expected = sum(map(Fraction, amounts), Fraction(0))
    random.shuffle(amounts)  # type: ignore[attr-defined]
    assert Fraction(sum_cents(amounts)) == expected


def test_the_sum_of_nothing_is_zero() -> None:
    assert sum_cents([]) == 0


def test_a_result_that_is_not_exact_is_an_error() -> None:
    with pytest.raises(Inexact):
        sum_cents([Decimal("1E+60"), Decimal("0.1")])
    with pytest.raises(Inexact):
        EXACT.divide(Decimal(1), Decimal(3))


@given(AMOUNTS)
def test_a_text_is_the_amount_in_plain_digits(amount: Decimal) -> None:
    text = cents_text(amount)
    assert Decimal(text) == amount
    assert set(text) <= set("-.0123456789")


@given(AMOUNTS, st.integers(0, 20))
def test_equal_amounts_have_one_text(amount: Decimal, zeros: int) -> None:
    padded = Decimal(f"{amount:f}" + ("" if "." in f"{amount:f}" else ".") + "0" * zeros)
    assert cents_text(padded) == cents_text(amount)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0.000", "0"), ("-0", "0"), ("1E+3", "1000"), ("-12.50", "-12.5"), ("1E-18", "0." + "0" * 17 + "1")],
)
def test_amounts_are_written_so(amount: str, text: str) -> None:
    assert cents_text(Decimal(amount)) == text

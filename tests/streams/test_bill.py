"""A bill: what it comes to is the exact sum of its lines, whatever is said of it."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.builders.bills import bill_of, charge_line


@given(st.lists(st.decimals(min_value=0, max_value=10**9, places=9).map(str), max_size=8))
def test_a_bill_is_the_exact_sum_of_its_lines(cents: list[str]) -> None:
    assert Fraction(bill_of(*cents).usd_cents) == sum(map(Fraction, cents), Fraction(0))


def test_the_last_digit_of_a_small_line_is_kept_beside_a_huge_one() -> None:
    assert bill_of("123456789012345678901.5", "0.000000000000000001").usd_cents == Decimal(
        "123456789012345678901.500000000000000001"
    )


def test_a_bill_without_lines_costs_nothing() -> None:
    assert bill_of().usd_cents == 0


def test_other_lines_make_another_sum() -> None:
    assert structs.replace(bill_of("1.5"), lines=(charge_line("2.25"),)).usd_cents == Decimal("2.25")
